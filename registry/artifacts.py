"""Files by content hash, in a local folder or behind any fsspec URL.

A local file is written aside, flushed to the disk and renamed, so that a name either holds the
whole file or nothing. Every read verifies the checksum. Remote stores write objects whole.

Files live outside the database's transactions. The order that loses nothing: put the file; then in
the transaction that names it, `keep_artifact`; and after a transaction that stopped naming it,
`release_artifacts` in one of its own. The two take turns, so a file is never removed between being
found and being named. What was not released then is found by `unnamed_artifacts` later.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.orm import Session

from registry.batches import AT_ONCE, batches
from registry.errors import ArtifactCorrupt, ArtifactMissing, StorageFull, StorageUnavailable
from registry.session import take_turn
from registry.tables import (
    AdapterRecord,
    Artifact,
    ControlImage,
    Correction,
    Prediction,
    SnapshotRecord,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ArtifactStore:
    """Immutable bytes named by their sha256. Safe to share between threads and processes."""

    def __init__(self, url_or_path: str | Path) -> None:
        """Creates a local folder that is missing. Raises StorageUnavailable."""
        self.url = str(url_or_path)
        try:
            self._files, self._root = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as problem:
            raise StorageUnavailable(self.url, str(problem)) from problem
        self._local = isinstance(self._files, LocalFileSystem)
        with self._translated():
            self._files.makedirs(self._root, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store bytes durably and return their sha256; nothing happens when they are there already.

        Raises StorageFull (and leaves nothing behind), StorageUnavailable.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        with self._translated(needed=len(data)):
            if self._size(path) == len(data):
                return sha256
            if self._local:
                _write_aside(Path(self._root), Path(path), data)
            else:
                self._files.pipe_file(path, data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """Raises ArtifactMissing, ArtifactCorrupt, StorageUnavailable."""
        path = self._path(sha256)
        with self._translated():
            try:
                data: bytes = self._files.cat_file(path)
            except FileNotFoundError as problem:
                raise ArtifactMissing(sha256) from problem
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ArtifactCorrupt(expected=sha256, found=found)
        return data

    def exists(self, sha256: str) -> bool:
        """Raises StorageUnavailable."""
        with self._translated():
            return self._size(self._path(sha256)) is not None

    def delete(self, sha256: str) -> None:
        """Remove a file; nothing happens when it is not there. Raises StorageUnavailable."""
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(sha256))

    def _path(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise ArtifactMissing(sha256)
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _size(self, path: str) -> int | None:
        try:
            return int(self._files.info(path)["size"])
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _translated(self, needed: int | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if problem.errno in _FULL:
                raise StorageFull(self.url, needed) from problem
            raise StorageUnavailable(self.url, problem.strerror or str(problem)) from problem


def _write_aside(root: Path, path: Path, data: bytes) -> None:
    incoming = root / "incoming"
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
    for folder in (path.parent, root):
        _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    """Make renames in it outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_artifact(
    session: Session,
    store: ArtifactStore,
    sha256: str,
    *,
    size: int,
    media_type: str,
    now: datetime,
) -> None:
    """Record a file that was put, so that rows of this transaction can name it.

    Raises ArtifactMissing when it was released again meanwhile: put it once more.
    """
    take_turn(session)
    if not store.exists(sha256):
        raise ArtifactMissing(sha256)
    if session.get(Artifact, sha256) is None:
        session.add(Artifact(sha256=sha256, bytes=size, media_type=media_type, created_at=now))
        session.flush()


def get_artifact(session: Session, sha256: str) -> Artifact:
    """Size and media type of a kept file. Raises ArtifactMissing."""
    row = session.get(Artifact, sha256)
    if row is None:
        raise ArtifactMissing(sha256)
    return row


def release_artifacts(session: Session, store: ArtifactStore, sha256s: Iterable[str]) -> list[str]:
    """Remove those of the files that no row names any more; returns which.

    Call it in a transaction of its own, after the one that stopped naming them has committed, and
    for many files in several: other writers wait until the last one is removed.
    """
    take_turn(session)
    released: list[str] = []
    for some in batches(sorted(set(sha256s))):
        query = select(Artifact.sha256).where(Artifact.sha256.in_(some), ~_named())
        unnamed = list(session.scalars(query))
        session.execute(delete(Artifact).where(Artifact.sha256.in_(unnamed)))
        released += unnamed
    for sha256 in released:
        store.delete(sha256)
    return released


def unnamed_artifacts(session: Session, *, after: str = "", limit: int = AT_ONCE) -> list[str]:
    """Hashes beyond `after`, in order, that no row names: what `release_artifacts` did not reach.

    Only files on record are found. One that is being stored right now is not on record before a row
    names it, or is found missing by `keep_artifact` and stored again.
    """
    query = select(Artifact.sha256).where(Artifact.sha256 > after, ~_named())
    return list(session.scalars(query.order_by(Artifact.sha256).limit(limit)))


def _named() -> ColumnElement[bool]:
    return (
        exists().where(Correction.image_sha256 == Artifact.sha256)
        | exists().where(AdapterRecord.digest == Artifact.sha256)
        | exists().where(SnapshotRecord.digest == Artifact.sha256)
        | exists().where(ControlImage.image_sha256 == Artifact.sha256)
        | exists().where(Prediction.image_sha256 == Artifact.sha256)
    )


def discard_unkept(session: Session, store: ArtifactStore, sha256s: Iterable[str]) -> None:
    """Remove files that were put and never kept, because the transaction was refused.

    Whoever has put the same file meanwhile and not kept it yet gets ArtifactMissing there.
    """
    take_turn(session)
    for sha256 in sorted(set(sha256s)):
        if session.get(Artifact, sha256) is None:
            store.delete(sha256)
