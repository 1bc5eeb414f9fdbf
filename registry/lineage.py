"""What the live version has learnt, asked without following ten thousand parents each time.

`live_lineage` remembers the ancestors of one version, the highest in it. It is brought to the live
version when it is asked, by the difference between the two: one version after an edit, as many as
were taken back after a rollback. Nothing breaks when it is behind, or empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, exists, func, insert, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import SQLColumnExpression

from registry.adapters import get_adapter, walk
from registry.batches import batches
from registry.session import take_turn
from registry.tables import AdapterCorrection, AdapterRecord, Correction, LiveLineage

READ_AT_ONCE = 10_000
"""Rows that the driver holds while a long answer comes in."""


class Learnt(NamedTuple):
    """As much of a correction as it takes to draw some from all."""

    id: str
    label: str


def learnt_corrections(session: Session, version: int) -> list[Learnt]:
    """What the lineage of a version was fitted on and still stands, oldest first.

    Takes about 200 bytes for each. Raises AdapterMissing.
    """
    return list(_learnt(session, version))


def _learnt(session: Session, version: int) -> Iterator[Learnt]:
    get_adapter(session, version)
    ancestry = walk(version, AdapterRecord.parent)
    fitted = select(AdapterCorrection.correction_id).where(
        AdapterCorrection.version.in_(select(ancestry.c.version))
    )
    query = (
        select(Correction.id, Correction.label)
        .where(
            Correction.id.in_(fitted),
            Correction.superseded_by.is_(None),
            Correction.forgotten_at.is_(None),
        )
        .order_by(Correction.id)
        .execution_options(yield_per=READ_AT_ONCE)
    )
    labels: dict[str, str] = {}  # each kept once, however many corrections have it
    for correction_id, label in session.execute(query):
        yield Learnt(correction_id, labels.setdefault(label, label))


def knows_forgotten(session: Session, version: int) -> bool:
    """Whether what is merged for a version was fitted on a correction that was forgotten since."""
    merged = walk(version, AdapterRecord.stacked_on)
    query = (
        select(Correction.id)
        .join(AdapterCorrection, AdapterCorrection.correction_id == Correction.id)
        .where(Correction.forgotten_at.is_not(None))
        .where(AdapterCorrection.version.in_(select(merged.c.version)))
        .limit(1)
    )
    return session.scalar(query) is not None


def follow_live(session: Session, live: int) -> None:
    """Bring `live_lineage` to the live version. For writers that have their turn."""
    known = session.scalar(select(func.max(LiveLineage.version))) or 0
    if known == live:
        return
    take_turn(session)
    path = _path_to_known(session, live)
    met = max((version for version, is_known in path if is_known), default=0)
    session.execute(delete(LiveLineage).where(LiveLineage.version > met))
    new = [{"version": version} for version, is_known in path if not is_known]
    for some in batches(new):
        session.execute(insert(LiveLineage), list(some))


def _path_to_known(session: Session, live: int) -> Sequence[tuple[int, bool]]:
    """Versions from `live` on, by parent, to the first that is on record, which is marked; without
    the base."""
    on_record = exists().where(LiveLineage.version == AdapterRecord.version)
    path = (
        select(AdapterRecord.version, AdapterRecord.parent, on_record.label("known"))
        .where(AdapterRecord.version == live)
        .cte("path", recursive=True)
    )
    step = (
        select(AdapterRecord.version, AdapterRecord.parent, on_record)
        .join(path, AdapterRecord.version == path.c.parent)
        .where(~path.c.known)
    )
    path = path.union_all(step)
    query = select(path.c.version, path.c.known).where(path.c.version > 0)
    return [(version, bool(known)) for version, known in session.execute(query)]


def in_live_lineage(version: SQLColumnExpression[int | None]) -> ColumnElement[bool]:
    """Once `follow_live` was called: whether a row's version is the live one or an ancestor."""
    return exists().where(LiveLineage.version == version)


def in_live_version() -> ColumnElement[bool]:
    """Once `follow_live` was called: whether a correction was fitted in the live lineage."""
    return (
        exists()
        .where(AdapterCorrection.correction_id == Correction.id)
        .where(LiveLineage.version == AdapterCorrection.version)
    )
