"""Snapshots: which versions have one, which should, and which are no longer worth their room.

A snapshot is a cache. Adapters are never removed for it, and a version that has none is merged from
them. The live version is never more than `SHALLOW` files above a snapshot for long; nor is any
version more than `MILESTONE`, because the versions whose depth is a multiple of that keep theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import CTE, delete, func, null, select
from sqlalchemy.orm import Session

from registry.adapters import get_adapter
from registry.artifacts import ArtifactStore, keep_artifact
from registry.promotions import live_promotion
from registry.session import take_turn
from registry.tables import AdapterRecord, SnapshotRecord

SNAPSHOT_MEDIA_TYPE = "application/vnd.safetensors"
SHALLOW = 6
"""Adapters above a snapshot that take the live version less time to load than ten without one."""
MILESTONE = 64
"""Snapshots of every so many adapters take less room than these do."""
RECENT = 8
"""Snapshots that are kept besides: of versions that were live of late."""


class StoredFile(NamedTuple):
    """A file of a version: its adapter, or its snapshot."""

    version: int
    digest: str
    depth: int


@dataclass(frozen=True)
class Chain:
    """What to merge for a version, in this order. Both empty for version 0."""

    snapshot: StoredFile | None
    adapters: tuple[StoredFile, ...]


def chain(session: Session, version: int, *, without: Collection[str] = ()) -> Chain:
    """The files that make a version: the nearest snapshot, if any, and the adapters above it.

    `without` names snapshot files that turned out to be unusable. Raises AdapterMissing.
    """
    get_adapter(session, version)
    walked = _down_to_a_snapshot(version, without)
    query = select(walked).where(walked.c.version > 0).order_by(walked.c.version)
    snapshot, adapters = None, []
    for row in session.execute(query):
        if row.snapshot is None:
            adapters.append(StoredFile(row.version, row.digest, row.depth))
        else:  # the walk ends here, so it is the first
            snapshot = StoredFile(row.version, row.snapshot, row.depth)
    return Chain(snapshot, tuple(adapters))


def _down_to_a_snapshot(version: int, without: Collection[str]) -> CTE:
    usable = SnapshotRecord.digest.not_in(list(without))
    this = (SnapshotRecord.version == AdapterRecord.version) & usable
    columns = (
        AdapterRecord.version,
        AdapterRecord.digest,
        AdapterRecord.depth,
        AdapterRecord.stacked_on.label("next"),
        SnapshotRecord.digest.label("snapshot"),
    )
    start = (
        select(*columns)
        .outerjoin(SnapshotRecord, this)
        .where(AdapterRecord.version == version)
        .cte("chain", recursive=True)
    )
    step = (
        select(*columns)
        .join(start, AdapterRecord.version == start.c.next)
        .outerjoin(SnapshotRecord, this)
        .where(start.c.snapshot == null())
    )
    return start.union_all(step)


def record_snapshot(
    session: Session, store: ArtifactStore, version: int, *, digest: str, size: int, now: datetime
) -> bool:
    """Keeps a snapshot whose file is stored already. False when the version has one meanwhile: then
    `discard_unkept` removes the file, in a transaction of its own.

    Raises AdapterMissing, ArtifactMissing.
    """
    take_turn(session)
    get_adapter(session, version)
    if session.get(SnapshotRecord, version) is not None:
        return False
    keep_artifact(session, store, digest, size=size, media_type=SNAPSHOT_MEDIA_TYPE, now=now)
    session.add(SnapshotRecord(version=version, digest=digest, bytes=size, created_at=now))
    session.flush()
    return True


def drop_snapshots(session: Session, digests: Iterable[str]) -> list[str]:
    """Lets go of snapshots by their files; hand what it returns to `release_artifacts` later."""
    take_turn(session)
    dropped = sorted(set(digests))
    session.execute(delete(SnapshotRecord).where(SnapshotRecord.digest.in_(dropped)))
    return dropped


def version_to_compact(session: Session, *, passed_over: Collection[int] = ()) -> int | None:
    """The version that most wants a snapshot, or None: the milestones beneath the live version from
    the lowest up, then the live version itself, then every other milestone, oldest first.

    One step at a time, so that each has few files to merge. `passed_over` are left out.
    """
    adapters = chain(session, live_promotion(session).version).adapters
    if len(adapters) > SHALLOW:
        steps = [file.version for file in adapters if file.depth % MILESTONE == 0]
        for version in (*steps, adapters[-1].version):
            if version not in passed_over:
                return version
    return session.scalar(
        select(func.min(AdapterRecord.version))
        .outerjoin(SnapshotRecord, SnapshotRecord.version == AdapterRecord.version)
        .where(AdapterRecord.depth >= MILESTONE, AdapterRecord.depth % MILESTONE == 0)
        .where(SnapshotRecord.version.is_(None), AdapterRecord.version.not_in(list(passed_over)))
    )


def surplus_snapshots(session: Session) -> Sequence[str]:
    """Files of snapshots that are neither recent, nor of a milestone, nor beneath what is live."""
    live = chain(session, live_promotion(session).version).snapshot
    recent = select(SnapshotRecord.version).order_by(SnapshotRecord.version.desc()).limit(RECENT)
    query = (
        select(SnapshotRecord.digest)
        .join(AdapterRecord, AdapterRecord.version == SnapshotRecord.version)
        .where(AdapterRecord.depth % MILESTONE != 0)
        .where(SnapshotRecord.version.not_in(recent))
    )
    if live is not None:
        query = query.where(SnapshotRecord.version != live.version)
    return session.scalars(query).all()
