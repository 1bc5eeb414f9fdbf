"""Files in a local folder: written aside, flushed to the disk and renamed, so that a name either
holds the whole file or nothing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from registry.found_file import FoundFile

INCOMING = "incoming"
LOCAL_FAILURES: tuple[type[Exception], ...] = (OSError, ValueError)
"""A path that no file system can have is a ValueError."""


class LocalFolder:
    """Names are relative, with slashes. Every method raises one of `LOCAL_FAILURES`."""

    def __init__(self, root: Path, *, writable: bool) -> None:
        """Creates the folder when it is to be written to."""
        self._root = root
        if writable:
            root.mkdir(parents=True, exist_ok=True)
        self.prove()

    def prove(self) -> None:
        """Raises FileNotFoundError when the folder itself is gone: a disk that is not mounted."""
        if not self._root.is_dir():
            raise FileNotFoundError("there is no such folder")

    def size(self, name: str) -> int | None:
        """None when there is no such file."""
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            self.prove()
            return None

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Durable when it returns. A file that holds the same already only becomes new again."""
        path = self._root / name
        if not _made_new(path, data):
            self._write_aside(path, data)
        for folder in {path.parent, self._root}:
            _flush(folder)

    def remove(self, name: str) -> None:
        """Raises FileNotFoundError."""
        (self._root / name).unlink()

    def folders(self) -> list[str]:
        """The folders right beneath, in order."""
        with os.scandir(self._root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def files(self, folder: str) -> Iterator[FoundFile]:
        """The files right in a folder; none when there is no such folder."""
        try:
            entries = list(os.scandir(self._root / folder))
        except FileNotFoundError:
            self.prove()
            return
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    facts = entry.stat()
                    modified = datetime.fromtimestamp(facts.st_mtime, UTC)
                    yield FoundFile(f"{folder}/{entry.name}", facts.st_size, modified)
            except FileNotFoundError:  # removed since it was listed
                continue

    def _write_aside(self, path: Path, data: bytes) -> None:
        incoming = self._root / INCOMING
        incoming.mkdir(exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        aside = incoming / f"{path.name}.{uuid.uuid4().hex}"
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def _made_new(path: Path, data: bytes) -> bool:
    """Compares what is there: a damaged file of the same size is written again, and one that
    nothing names yet must not look old to who collects those."""
    try:
        if path.stat().st_size != len(data) or path.read_bytes() != data:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _flush(folder: Path) -> None:
    """Make renames in it outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
