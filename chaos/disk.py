"""A disk for the artifacts that can be filled up and freed again.

Root mounts a small tmpfs, which then really has no byte left. Anybody else limits the size of the
files that the processes may write (RLIMIT_FSIZE): every write fails with EFBIG, which the store
takes for a full disk as it takes ENOSPC.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

TMPFS_BYTES = 64 * 1024 * 1024
BALLAST = "ballast"
CHUNK = bytes(1024 * 1024)


class Disk(Protocol):
    """`how` names the way for the report."""

    how: str

    def fill(self) -> None: ...

    def free(self) -> None: ...

    def close(self) -> None: ...


def open_disk(folder: Path, processes: Callable[[], Iterable[int]]) -> Disk:
    """A disk for what is written beneath `folder`, which exists and is empty; `processes` gives the
    pids that write there."""
    if os.geteuid() == 0 and _mount(folder):
        return MountedDisk(folder)
    return LimitedFiles(processes)


class MountedDisk:
    """A tmpfs over the folder."""

    how = "a tmpfs without a free byte (ENOSPC)"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self) -> None:
        """Down to the last byte; a file of one byte fits no more. Nothing once it was closed:
        below it is the machine's own disk."""
        if not self._folder.is_mount():
            return
        with (self._folder / BALLAST).open("ab", buffering=0) as ballast:
            chunk = CHUNK
            while chunk:
                try:
                    ballast.write(chunk)
                except OSError as full:
                    if full.errno != errno.ENOSPC:
                        raise
                    chunk = chunk[: len(chunk) // 2]

    def free(self) -> None:
        (self._folder / BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        self.free()
        # Lazily: what still has a file open there is about to end.
        _libc().umount2(os.fsencode(self._folder), 2)


class LimitedFiles:
    """No file may grow beyond nothing, in the processes that write there."""

    how = "a limit on the size of files (EFBIG)"

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes

    def fill(self) -> None:
        for pid in self._processes():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    def free(self) -> None:
        for pid in self._processes():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def close(self) -> None:
        self.free()


def _mount(folder: Path) -> bool:
    options = f"size={TMPFS_BYTES},mode=0755".encode()
    failed: int = _libc().mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options)
    return failed == 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
