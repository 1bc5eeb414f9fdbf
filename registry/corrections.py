"""Corrections once they are accepted: looked up, listed, gathered for an edit, forgotten for good.

They come in through `registry.submissions`. A correction's state is that of the latest job it
joined (`Correction.state`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session, joinedload

from registry.batches import batches
from registry.edit_jobs import cancel_emptied_jobs
from registry.errors import CorrectionMissing
from registry.pages import Page, identity_cursor, page_of, page_size
from registry.predictions import drop_predictions
from registry.session import take_turn
from registry.tables import Correction, EditJobCorrection, Prediction

_STANDS = (Correction.superseded_by.is_(None), Correction.forgotten_at.is_(None))


def get_correction(session: Session, correction_id: str) -> Correction:
    """With its job, so that `state` can be read. Raises CorrectionMissing."""
    query = select(Correction).where(Correction.id == correction_id)
    row = session.scalar(_with_job(query))
    if row is None:
        raise CorrectionMissing(correction_id)
    return row


def list_corrections(
    session: Session, *, cursor: str | None = None, limit: int = 50
) -> Page[Correction]:
    """Newest first, each with its job. Raises CursorInvalid."""
    limit = page_size(limit)
    query = select(Correction).order_by(Correction.id.desc()).limit(limit + 1)
    if (before := identity_cursor(cursor)) is not None:
        query = query.where(Correction.id < before)
    return page_of(session.scalars(_with_job(query)).all(), limit, lambda row: row.id)


def job_corrections(session: Session, job_id: str) -> list[Correction]:
    """The new corrections of a job that are still live, oldest first, each with its job."""
    query = (
        select(Correction)
        .join(EditJobCorrection, EditJobCorrection.correction_id == Correction.id)
        .where(EditJobCorrection.job_id == job_id)
    )
    return _live(session, query)


def correction_ids_of(session: Session, job_ids: Iterable[str]) -> dict[str, list[str]]:
    """Ids of all corrections that joined each job, oldest first; every job asked for is a key."""
    found: dict[str, list[str]] = {job_id: [] for job_id in job_ids}
    query = (
        select(EditJobCorrection.job_id, EditJobCorrection.correction_id)
        .where(EditJobCorrection.job_id.in_(list(found)))
        .order_by(EditJobCorrection.correction_id)
    )
    for job_id, correction_id in session.execute(query):
        found[job_id].append(correction_id)
    return found


def corrections_of(session: Session, ids: Iterable[str]) -> list[Correction]:
    """Those of the corrections that still stand, oldest first, without their jobs."""
    found: list[Correction] = []
    for some in batches(sorted(ids)):
        query = select(Correction).where(Correction.id.in_(some), *_STANDS)
        found += session.scalars(query.order_by(Correction.id))
    return found


def record_outcome(
    session: Session,
    correction_id: str,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """What the encoder answered for the image before its edit, and after; not of a correction that
    was forgotten meanwhile, because an answer may quote the question."""
    take_turn(session)
    session.execute(
        update(Correction)
        .where(Correction.id == correction_id, Correction.forgotten_at.is_(None))
        .values(
            before=None if before is None else dict(before),
            after=None if after is None else dict(after),
        )
        .execution_options(synchronize_session=False)
    )


def forget(session: Session, correction_id: str, *, now: datetime) -> list[str]:
    """Forget a correction and, when it was live, all it replaced: earlier labels of its image, or
    earlier answers to its question. With the last live one of an image go its predictions.

    Returns the hashes to hand to `release_artifacts` once this transaction has committed. A second
    time does nothing. Raises CorrectionMissing.
    """
    take_turn(session)
    row = get_correction(session, correction_id)
    image = row.image_sha256
    if row.forgotten_at is not None or image is None:
        return []
    going = select(Correction).where(Correction.id == correction_id)
    if row.superseded_by is None:
        going = select(Correction).where(
            Correction.image_sha256 == image, Correction.question_sha256 == row.question_sha256
        )
        others = select(Correction.id).where(Correction.image_sha256 == image, *_STANDS)
        if session.scalar(others.where(Correction.id != correction_id).limit(1)) is None:
            answers = select(Prediction.id).where(Prediction.image_sha256 == image)
            drop_predictions(session, session.scalars(answers))
    rows = session.scalars(going).all()
    for one in rows:
        one.image_sha256 = None
        one.note = None
        if one.question:  # people's own words, as a note is
            one.question = one.label = ""
            one.answer = one.wrong_answer = one.predicted = None
            one.before = one.after = None
        one.forgotten_at = now
    session.flush()
    cancel_emptied_jobs(session, [one.edit_job_id for one in rows], now=now)
    return [image]


def _live(session: Session, query: Select[Correction]) -> list[Correction]:
    query = query.where(*_STANDS).order_by(Correction.id)
    return list(session.scalars(_with_job(query)))


def _with_job(query: Select[Correction]) -> Select[Correction]:
    return query.options(joinedload(Correction.edit_job, innerjoin=True)).execution_options(
        populate_existing=True
    )
