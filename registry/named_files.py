"""Which files must stay: those that a row other than their own record names."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.tables import (
    AdapterRecord,
    Artifact,
    ControlImage,
    ControlQuestion,
    Correction,
    Prediction,
    SnapshotRecord,
)

NAMED_BY: tuple[InstrumentedAttribute[str] | InstrumentedAttribute[str | None], ...] = (
    Correction.image_sha256,
    AdapterRecord.digest,
    SnapshotRecord.digest,
    ControlImage.image_sha256,
    ControlQuestion.image_sha256,
    Prediction.image_sha256,
)
"""The columns whose files must stay."""


def named() -> ColumnElement[bool]:
    """Of an artifact's row: whether another row names its file."""
    return or_(*(exists().where(column == Artifact.sha256) for column in NAMED_BY))


def is_named(session: Session, sha256: str) -> bool:
    """Whether the file must be in the store."""
    return bool(session.scalar(select(exists().where(Artifact.sha256 == sha256, named()))))
