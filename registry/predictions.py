"""Answers of `/classify`, kept for a while: a correction can name one instead of an image.

What they cost is what they take in files and in the database; a vocabulary that many of them chose
from is kept, and counted, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, exists, func, insert, or_, select
from sqlalchemy.orm import Session

from registry.batches import batches
from registry.errors import PredictionMissing
from registry.session import json_text, storable, take_turn
from registry.tables import Prediction, Vocabulary

ANSWERS_KEPT = 20
"""The best of each prediction; to correct it takes the first."""


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


def keep_predictions(session: Session, new: Sequence[NewPrediction], *, now: datetime) -> int:
    """Insert all, each with its best answers; the bytes that this takes, images included.

    Their images must have been kept (`keep_artifact`) in this transaction. A score that is not
    finite is kept as None.
    """
    if not new:
        return 0
    take_turn(session)
    vocabularies = {labels: _vocabulary(labels) for labels in {tuple(n.vocabulary) for n in new}}
    taken = _keep_vocabularies(session, list(vocabularies.values()))
    rows = [_row(one, vocabularies[tuple(one.vocabulary)]["digest"], now) for one in new]
    session.execute(insert(Prediction), rows)
    return taken + sum(int(row["bytes"]) for row in rows)


def _row(new: NewPrediction, digest: str, now: datetime) -> dict[str, Any]:
    answer = [
        {key: storable(value) for key, value in choice.items()}
        for choice in new.answer[:ANSWERS_KEPT]
    ]
    return {
        "id": new.id,
        "image_sha256": new.image_sha256,
        "version": new.version,
        "label_set": new.label_set,
        "vocabulary_digest": digest,
        "answer": answer,
        "bytes": new.bytes + len(json_text(answer).encode()),
        "created_at": now,
    }


def _vocabulary(labels: Sequence[str]) -> dict[str, Any]:
    text = json_text(list(labels)).encode()
    return {"digest": hashlib.sha256(text).hexdigest(), "labels": list(labels), "bytes": len(text)}


def _keep_vocabularies(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert those that are not there yet; their bytes."""
    wanted = [row["digest"] for row in rows]
    known = set(session.scalars(select(Vocabulary.digest).where(Vocabulary.digest.in_(wanted))))
    missing = [row for row in rows if row["digest"] not in known]
    if missing:
        session.execute(insert(Vocabulary), missing)
    return sum(row["bytes"] for row in missing)


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
    turn = func.row_number().over(partition_by=Prediction.vocabulary_digest, order_by=newest_first)
    costs = (
        select(
            Prediction.id,
            Prediction.created_at,
            # The newest that chose from a vocabulary carries it: the last to let go of it.
            (Prediction.bytes + case((turn == 1, Vocabulary.bytes), else_=0)).label("cost"),
        )
        .join(Vocabulary, Vocabulary.digest == Prediction.vocabulary_digest)
        .subquery()
    )
    held = func.sum(costs.c.cost).over(order_by=(costs.c.created_at.desc(), costs.c.id.desc()))
    sizes = select(costs.c.id, costs.c.created_at, held.label("held")).subquery()
    surplus = (
        select(sizes.c.id)
        .where(or_(sizes.c.created_at < now - keep, sizes.c.held > keep_bytes))
        .order_by(sizes.c.created_at, sizes.c.id)
        .limit(limit)
    )
    return list(session.scalars(surplus))


def drop_predictions(session: Session, ids: Iterable[str]) -> list[str]:
    """Delete a batch of them, and the vocabularies that no other chose from.

    Returns the hashes to hand to `release_artifacts` once this transaction has committed.
    """
    take_turn(session)
    images: set[str] = set()
    for some in batches(list(ids)):
        dropped = (
            delete(Prediction)
            .where(Prediction.id.in_(some))
            .returning(Prediction.image_sha256, Prediction.vocabulary_digest)
            .execution_options(synchronize_session=False)
        )
        rows = session.execute(dropped).all()
        images |= {image for image, _ in rows}
        _drop_vocabularies(session, {digest for _, digest in rows})
    return sorted(images)


def _drop_vocabularies(session: Session, digests: set[str]) -> None:
    named = exists().where(Prediction.vocabulary_digest == Vocabulary.digest)
    session.execute(
        delete(Vocabulary)
        .where(Vocabulary.digest.in_(sorted(digests)), ~named)
        .execution_options(synchronize_session=False)
    )
