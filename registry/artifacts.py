"""Files by content hash, in a local folder or behind any fsspec URL.

Every read verifies the checksum. A file that is there is whole; one that is damaged later is mended
by putting it again.

Files live outside the database's transactions. The order that loses nothing: put the file; then in
the transaction that names it, `keep_artifact`; and after a transaction that stopped naming it,
`release_artifacts` in one of its own. The two take turns, so a file is never removed between being
found and being named. What was not released then is found by `unnamed_artifacts` later, and files
that never came to be on record by `registry.strays`. While the store is held
(`registry.holds`) nothing is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.addresses import reason_of, shown
from registry.batches import AT_ONCE, batches
from registry.errors import ArtifactCorrupt, ArtifactMissing, StorageFull, StorageUnavailable
from registry.found_file import FoundFile
from registry.local_folder import LOCAL_FAILURES, LocalFolder
from registry.named_files import named
from registry.remote_folder import RemoteFolder, failures_of
from registry.session import take_turn
from registry.tables import Artifact

T = TypeVar("T")
U = TypeVar("U")
ASKED_AT_ONCE = 8
SILENT_S = 1.0
"""After a request that nobody answered, how long others are refused instead of waiting as well."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HOLD = "hold"


class ArtifactStore:
    """Immutable bytes named by their sha256. Safe to share between threads and processes.

    A remote store that does not answer is unavailable within seconds.
    """

    def __init__(self, url_or_path: str | Path, *, writable: bool = True) -> None:
        """Creates a local folder that is missing. Raises StorageUnavailable."""
        address = str(url_or_path)
        self.url = shown(address)
        """Without what a URL may carry to prove who asks."""
        self._silent_until = 0.0
        protocol, separator, path = address.partition("://")
        local = not separator or protocol == "file"
        try:
            self._failures = LOCAL_FAILURES if local else failures_of(address)
            with self._translated():
                self._folder = (
                    LocalFolder(Path(path if separator else address), writable=writable)
                    if local
                    else RemoteFolder(address, writable=writable)
                )
        except ImportError as problem:
            raise StorageUnavailable(self.url, str(problem)) from problem

    def put(self, data: bytes) -> str:
        """Store bytes durably and return their sha256, whatever is there under that name.

        Raises StorageFull (and leaves nothing behind), StorageUnavailable.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        with self._translated(needed=len(data)):
            self._folder.write(_name(sha256), data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """Raises ArtifactMissing, ArtifactCorrupt, StorageUnavailable."""
        name = _name(sha256)
        with self._translated():
            try:
                data = self._folder.read(name)
            except FileNotFoundError as problem:
                self._folder.prove()
                raise ArtifactMissing(sha256) from problem
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ArtifactCorrupt(expected=sha256, found=found)
        return data

    def exists(self, sha256: str) -> bool:
        """Raises StorageUnavailable."""
        return self.size(sha256) is not None

    def size(self, sha256: str) -> int | None:
        """Bytes of a file as it is now; None when there is none. Raises StorageUnavailable."""
        name = _name(sha256)
        with self._translated():
            return self._folder.size(name)

    def delete(self, sha256: str) -> None:
        """Remove a file; nothing happens when it is not there. Raises StorageUnavailable."""
        self.remove(_name(sha256))

    @property
    def is_remote(self) -> bool:
        """Whether asking it takes time worth saving."""
        return not isinstance(self._folder, LocalFolder)

    def each(self, ask: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """What a method of this store gives for each item, in order; a remote one is asked several
        at a time. Raises what the method raises."""
        if len(items) < 2 or not self.is_remote:
            return [ask(item) for item in items]
        with ThreadPoolExecutor(min(len(items), ASKED_AT_ONCE)) as pool:
            return list(pool.map(ask, items))

    def folders(self) -> list[str]:
        """The folders that files may stand in. Raises StorageUnavailable."""
        with self._translated():
            return self._folder.folders()

    def files(self, folder: str) -> list[FoundFile]:
        """Whatever files a folder has. Raises StorageUnavailable."""
        with self._translated():
            return list(self._folder.files(folder))

    def remove(self, name: str) -> None:
        """`delete` for a file that was found. Raises StorageUnavailable."""
        with self._translated():
            try:
                self._folder.remove(name)
            except FileNotFoundError:
                self._folder.prove()

    def holds(self) -> dict[str, datetime]:
        """Up to when nothing is removed, by who asked for it; some may have passed."""
        with self._translated():
            try:
                lines = self._folder.read(_HOLD).decode().splitlines()
            except FileNotFoundError:
                self._folder.prove()
                return {}
            split = [line.partition(" ") for line in lines]
            return {holder: datetime.fromisoformat(until) for until, _, holder in split}

    def set_holds(self, holds: Mapping[str, datetime]) -> None:
        """Instead of those there were, in a turn of `take_turn`.

        Raises StorageFull, StorageUnavailable.
        """
        if not holds:
            self.remove(_HOLD)
            return
        lines = [f"{until.astimezone(UTC).isoformat()} {holder}" for holder, until in holds.items()]
        with self._translated():
            self._folder.write(_HOLD, "\n".join(lines).encode())

    def held_until(self) -> datetime | None:
        """When something may be removed again; None when it may be already."""
        until = max(self.holds().values(), default=None)
        return until if until is not None and until > datetime.now(UTC) else None

    def is_held(self) -> bool:
        """Raises StorageUnavailable."""
        return self.held_until() is not None

    @contextlib.contextmanager
    def _translated(self, needed: int | None = None) -> Iterator[None]:
        if time.monotonic() < self._silent_until:
            raise StorageUnavailable(self.url, "it did not answer a moment ago")
        try:
            yield
        except self._failures as problem:
            if isinstance(problem, TimeoutError):
                self._silent_until = time.monotonic() + SILENT_S
            if isinstance(problem, OSError) and problem.errno in _FULL:
                raise StorageFull(self.url, needed) from problem
            raise StorageUnavailable(self.url, reason_of(problem)) from problem


def _name(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ArtifactMissing(sha256)
    return f"{sha256[:2]}/{sha256}"


@dataclass(frozen=True)
class PutFile:
    """A file that was put, as its row will describe it."""

    sha256: str
    bytes: int
    media_type: str


def keep_artifact(
    session: Session,
    store: ArtifactStore,
    sha256: str,
    *,
    size: int,
    media_type: str,
    now: datetime,
) -> None:
    """`keep_artifacts` for one."""
    keep_artifacts(session, store, [PutFile(sha256, size, media_type)], now=now)


def keep_artifacts(
    session: Session,
    store: ArtifactStore,
    files: Sequence[PutFile],
    *,
    now: datetime,
    holder: str | None = None,
) -> None:
    """Record files that were put, so that rows of this transaction can name them.

    The store is asked for each, while other writers wait, unless the hold of `holder`, begun before
    the first was put, lasts still: then none can be gone. Raises ArtifactMissing when one was
    released again meanwhile: put it once more.
    """
    take_turn(session)
    by_hash = {file.sha256: file for file in files}
    if holder is None or store.holds().get(holder, now) <= datetime.now(UTC):
        there = store.each(store.exists, list(by_hash))
        for sha256, is_there in zip(by_hash, there, strict=True):
            if not is_there:
                raise ArtifactMissing(sha256)
    for some in batches(list(by_hash)):
        query = select(Artifact.sha256).where(Artifact.sha256.in_(some))
        new = set(some) - set(session.scalars(query))
        session.add_all(Artifact(created_at=now, **vars(by_hash[sha256])) for sha256 in new)
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
    for many files in several: other writers wait until the last one is removed. While the store is
    held nothing is removed: `unnamed_artifacts` finds it afterwards.
    """
    take_turn(session)
    released: list[str] = []
    if store.is_held():
        return released
    for some in batches(sorted(set(sha256s))):
        query = select(Artifact.sha256).where(Artifact.sha256.in_(some), ~named())
        unnamed = list(session.scalars(query))
        session.execute(delete(Artifact).where(Artifact.sha256.in_(unnamed)))
        released += unnamed
    store.each(store.delete, released)
    return released


def unnamed_artifacts(
    session: Session, *, after: str = "", limit: int = AT_ONCE
) -> tuple[list[str], str | None]:
    """Which of the next `limit` files on record beyond `after` no row names, and the last looked
    at; None when these were all: however many files there are, this takes the same time."""
    query = select(Artifact.sha256).where(Artifact.sha256 > after).order_by(Artifact.sha256)
    some = list(session.scalars(query.limit(limit)))
    unnamed = select(Artifact.sha256).where(Artifact.sha256.in_(some), ~named())
    last = some[-1] if len(some) == limit else None
    return sorted(session.scalars(unnamed)), last


def discard_unkept(session: Session, store: ArtifactStore, sha256s: Iterable[str]) -> None:
    """Remove files that were put and never kept, because the transaction was refused.

    For many files in several transactions, as `release_artifacts`. Whoever has put the same file
    meanwhile and not kept it yet gets ArtifactMissing there. While the store is held nothing is
    removed: `registry.strays` finds it afterwards.
    """
    take_turn(session)
    if store.is_held():  # one of them may have had a row when the backup began
        return
    for some in batches(sorted(set(sha256s))):
        query = select(Artifact.sha256).where(Artifact.sha256.in_(some))
        kept = set(session.scalars(query))
        store.each(store.delete, [sha256 for sha256 in some if sha256 not in kept])
