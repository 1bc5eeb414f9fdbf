"""Versions: rows that are written once and never changed. Version 0 is the base encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CTE, func, insert, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.artifacts import ArtifactStore, keep_artifact
from registry.errors import AdapterMissing, BaseMismatch
from registry.pages import Page, number_cursor, page_of, page_size
from registry.session import take_turn
from registry.tables import AdapterCorrection, AdapterRecord, Promotion

ADAPTER_MEDIA_TYPE = "application/vnd.safetensors"


@dataclass(frozen=True)
class NewAdapter:
    """What a trained candidate brings. `digest` is the sha256 of its stored file."""

    parent: int
    stacked_on: int | None
    method: str
    config: Mapping[str, Any]
    seed: int
    base_name: str
    base_pretrained: str | None
    base_digest: str
    digest: str
    bytes: int
    parameters: int
    strength: float
    edit_job_id: str
    report: Mapping[str, Any]
    correction_ids: Iterable[str] = ()
    """Every correction it was fitted on, new and replayed."""


def record_adapter(
    session: Session, store: ArtifactStore, new: NewAdapter, *, now: datetime
) -> int:
    """Append a version whose file is stored already; its number is the next integer.

    Raises ArtifactMissing when the file is not in the store, AdapterMissing when there is no
    version to stack on.
    """
    take_turn(session)
    keep_artifact(
        session, store, new.digest, size=new.bytes, media_type=ADAPTER_MEDIA_TYPE, now=now
    )
    version = session.scalars(select(func.max(AdapterRecord.version))).one() + 1
    values = {**vars(new), "config": dict(new.config), "report": dict(new.report)}
    correction_ids = sorted(set(values.pop("correction_ids")))
    values["depth"] = 1 + (
        0 if new.stacked_on is None else get_adapter(session, new.stacked_on).depth
    )
    session.add(AdapterRecord(version=version, created_at=now, **values))
    session.flush()
    rows = [{"version": version, "correction_id": one} for one in correction_ids]
    if rows:
        session.execute(insert(AdapterCorrection), rows)
    return version


def ensure_base(
    session: Session,
    store: ArtifactStore,
    *,
    name: str,
    pretrained: str | None,
    base_digest: str,
    empty_adapter: bytes,
    now: datetime,
) -> None:
    """Make sure that version 0, its empty adapter file and the first promotion are there.

    Any number of processes may call this at once, each time they start. Raises BaseMismatch when
    the data belongs to another base encoder.
    """
    take_turn(session)
    recorded = session.get(AdapterRecord, 0)
    if recorded is not None:
        if recorded.base_digest != base_digest:
            raise BaseMismatch(
                recorded_name=recorded.base_name,
                recorded=recorded.base_digest,
                name=name,
                given=base_digest,
            )
        return
    digest = store.put(empty_adapter)
    size = len(empty_adapter)
    keep_artifact(session, store, digest, size=size, media_type=ADAPTER_MEDIA_TYPE, now=now)
    session.add(
        AdapterRecord(
            version=0,
            depth=0,
            method="none",
            config={},
            seed=0,
            base_name=name,
            base_pretrained=pretrained,
            base_digest=base_digest,
            digest=digest,
            bytes=size,
            parameters=0,
            strength=1.0,
            created_at=now,
        )
    )
    session.flush()
    session.add(Promotion(id=1, version=0, reason="the base encoder", created_at=now))
    session.flush()


def get_adapter(session: Session, version: int) -> AdapterRecord:
    """Raises AdapterMissing."""
    row = session.get(AdapterRecord, version)
    if row is None:
        raise AdapterMissing(version)
    return row


def list_adapters(
    session: Session, *, cursor: str | None = None, limit: int = 50
) -> Page[AdapterRecord]:
    """Newest first. Raises CursorInvalid."""
    limit = page_size(limit)
    query = select(AdapterRecord).order_by(AdapterRecord.version.desc()).limit(limit + 1)
    if (number := number_cursor(cursor)) is not None:
        query = query.where(AdapterRecord.version < number)
    return page_of(session.scalars(query).all(), limit, lambda row: row.version)


def correction_counts(session: Session, versions: Iterable[int]) -> dict[int, int]:
    """How many corrections each version was fitted on; every version asked for is a key."""
    counts = dict.fromkeys(versions, 0)
    query = (
        select(AdapterCorrection.version, func.count())
        .where(AdapterCorrection.version.in_(list(counts)))
        .group_by(AdapterCorrection.version)
    )
    counts.update((version, count) for version, count in session.execute(query))
    return counts


def walk(version: int, link: InstrumentedAttribute[int | None]) -> CTE:
    """The versions met by following `parent` or `stacked_on` from one version, itself included."""
    start = (
        select(AdapterRecord.version, link.label("next"))
        .where(AdapterRecord.version == version)
        .cte(f"walk_{link.key}", recursive=True)
    )
    step = select(AdapterRecord.version, link).join(start, AdapterRecord.version == start.c.next)
    return start.union(step)
