"""Answers of `/classify`, kept for a while: a correction can name one instead of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.orm import Session

from registry.errors import PredictionMissing
from registry.session import storable
from registry.tables import Prediction


@dataclass(frozen=True)
class NewPrediction:
    """`answer`: `[{"label", "score"}, …]`, best first; `bytes`: size of the image."""

    id: str
    image_sha256: str
    version: int
    label_set: str | None
    vocabulary: Sequence[str]
    answer: Sequence[Mapping[str, Any]]
    bytes: int


def keep_predictions(session: Session, new: Sequence[NewPrediction], *, now: datetime) -> None:
    """Insert all. Their images must have been kept (`keep_artifact`) in this transaction.

    A score that is not finite is kept as None.
    """
    if not new:
        return
    rows = [
        {
            **vars(one),
            "vocabulary": list(one.vocabulary),
            "answer": [
                {key: storable(value) for key, value in choice.items()} for choice in one.answer
            ],
            "created_at": now,
        }
        for one in new
    ]
    session.execute(insert(Prediction), rows)


def find_prediction(session: Session, prediction_id: str) -> Prediction | None:
    return session.get(Prediction, prediction_id)


def get_prediction(session: Session, prediction_id: str) -> Prediction:
    """Raises PredictionMissing: never made, or kept no longer."""
    row = find_prediction(session, prediction_id)
    if row is None:
        raise PredictionMissing(prediction_id)
    return row


def surplus_predictions(
    session: Session, *, keep: timedelta, keep_bytes: int, now: datetime, limit: int | None = None
) -> list[str]:
    """Ids of those older than `keep` and of the oldest beyond `keep_bytes`, oldest first.

    Hand them to `drop_predictions`, in batches: a transaction each.
    """
    newest_first = (Prediction.created_at.desc(), Prediction.id.desc())
    sizes = select(
        Prediction.id,
        Prediction.created_at,
        func.sum(Prediction.bytes).over(order_by=newest_first).label("held"),
    ).subquery()
    surplus = (
        select(sizes.c.id)
        .where(or_(sizes.c.created_at < now - keep, sizes.c.held > keep_bytes))
        .order_by(sizes.c.created_at, sizes.c.id)
        .limit(limit)
    )
    return list(session.scalars(surplus))


def drop_predictions(session: Session, ids: Sequence[str]) -> list[str]:
    """Delete a batch of them.

    Returns the hashes to hand to `release_artifacts` once this transaction has committed.
    """
    dropped = delete(Prediction).where(Prediction.id.in_(ids)).returning(Prediction.image_sha256)
    return sorted(set(session.scalars(dropped.execution_options(synchronize_session=False))))
