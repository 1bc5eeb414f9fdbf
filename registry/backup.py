"""A copy of everything that must survive: the database as of one moment, and every file it names.

Files never change, they only come and go. So the order that is right while corrections flow and
others are forgotten: hold the store (`registry.holds`), so that nothing is removed; dump the
database; copy the files on record, which the hold has kept; end the hold, which must have lasted.
What came after the dump is copied too and does no
harm. A hold ends by itself, should its backup never do so; what is to be removed meanwhile is
removed by the worker's sweep afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Engine, select

from registry.artifacts import ArtifactStore
from registry.errors import ArtifactCorrupt, ArtifactMissing
from registry.named_files import is_named, named
from registry.session import reading
from registry.tables import Artifact

HOLD = timedelta(hours=24)
AT_ONCE = 200
"""Rows read between looks at the files."""
THREADS = 8


@dataclass
class Copied:
    """`lost` are named files that the source does not have whole."""

    files: int = 0
    bytes: int = 0
    there_already: int = 0
    lost: list[str] = field(default_factory=list)


def copy_files(
    engine: Engine, source: ArtifactStore, destination: ArtifactStore, *, threads: int = THREADS
) -> Copied:
    """All files on record; those that the destination has whole are not read from the source.

    Raises DatabaseUnavailable, StorageFull, StorageUnavailable.
    """
    copied = Copied()

    def copy(row: Artifact) -> bool:
        """Whether it had to be."""
        if _is_whole(destination, row.sha256):
            return False
        destination.put(source.get(row.sha256))
        return True

    with ThreadPoolExecutor(threads) as pool:
        for rows in artifact_pages(engine):
            futures = [(row, pool.submit(copy, row)) for row in rows]
            for row, future in futures:
                _count(engine, copied, row, future.result)
    return copied


def _is_whole(store: ArtifactStore, sha256: str) -> bool:
    try:
        store.get(sha256)
    except (ArtifactMissing, ArtifactCorrupt):
        return False
    return True


def _count(engine: Engine, copied: Copied, row: Artifact, was_copied: Callable[[], bool]) -> None:
    try:
        if was_copied():
            copied.files += 1
            copied.bytes += row.bytes
        else:
            copied.there_already += 1
    except (ArtifactMissing, ArtifactCorrupt):
        with reading(engine) as session:
            if is_named(session, row.sha256):
                copied.lost.append(row.sha256)


def artifact_pages(engine: Engine, *, only_named: bool = False) -> Iterator[list[Artifact]]:
    """The rows of all files, in order, in short transactions."""
    last = ""
    while True:
        with reading(engine) as session:
            query = select(Artifact).where(Artifact.sha256 > last)
            query = query.where(named()) if only_named else query
            rows = list(session.scalars(query.order_by(Artifact.sha256).limit(AT_ONCE)))
        if not rows:
            return
        yield rows
        last = rows[-1].sha256
