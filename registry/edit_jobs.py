"""Edit jobs as their requesters see them: open while they gather, due, listed, cancelled.

The worker's side is `registry.claims`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, insert, or_, select, update
from sqlalchemy.orm import Session

from registry.batches import batches
from registry.errors import CorrectionMissing, JobFinished, JobMissing, NothingToEdit
from registry.identity import new_id
from registry.lineage import follow_live, in_live_lineage, in_live_version, knows_forgotten
from registry.pages import Page, number_cursor, page_of, page_size
from registry.promotions import live_promotion
from registry.session import take_turn
from registry.tables import Correction, EditJob, EditJobCorrection

DEFAULT_METHOD = "lorsu"
DUE_AT_ONCE = 50
"""Far more than a worker can begin before it asks again."""
JOBS_AT_ONCE = 1_000
"""That one statement names, or changes."""
WAITING: dict[str, Any] = {"phase": "waiting", "step": 0, "steps": 0, "loss": None}


def get_job(session: Session, job_id: str) -> EditJob:
    """Raises JobMissing."""
    query = select(EditJob).where(EditJob.id == job_id).execution_options(populate_existing=True)
    job = session.scalar(query)
    if job is None:
        raise JobMissing(job_id)
    return job


def list_jobs(session: Session, *, cursor: str | None = None, limit: int = 50) -> Page[EditJob]:
    """Newest first. Raises CursorInvalid."""
    limit = page_size(limit)
    query = select(EditJob).order_by(EditJob.number.desc()).limit(limit + 1)
    if (number := number_cursor(cursor)) is not None:
        query = query.where(EditJob.number < number)
    return page_of(session.scalars(query).all(), limit, lambda job: job.number)


def due_jobs(session: Session, now: datetime, *, limit: int = DUE_AT_ONCE) -> list[str]:
    """Ids of the oldest queued jobs whose time to start has come, oldest first."""
    query = (
        select(EditJob.id)
        .where(EditJob.status == "queued", EditJob.starts_at <= now)
        .order_by(EditJob.number)
        .limit(limit)
    )
    return list(session.scalars(query))


def open_job(
    session: Session,
    *,
    method: str,
    config: Mapping[str, Any],
    seed: int,
    base_digest: str,
    gathering: bool,
    starts_at: datetime,
    now: datetime,
) -> EditJob:
    """Insert a queued job of no corrections. For this room."""
    job = EditJob(
        id=new_id(),
        status="queued",
        open=gathering,
        method=method,
        config=dict(config),
        seed=seed,
        base_digest=base_digest,
        size=0,
        progress=dict(WAITING),
        created_at=now,
        starts_at=starts_at,
    )
    session.add(job)
    session.flush()
    return job


def find_open_job(session: Session, base_digest: str) -> EditJob | None:
    """The job that still gathers corrections."""
    query = select(EditJob).where(EditJob.base_digest == base_digest, EditJob.open)
    return session.scalar(query.execution_options(populate_existing=True))


def start_job(
    session: Session,
    *,
    method: str,
    config: Mapping[str, Any],
    seed: int,
    base_digest: str,
    now: datetime,
    correction_ids: Sequence[str] | None = None,
) -> EditJob:
    """Start an edit now with this method and config.

    The job that is gathering becomes due. Without one, a new job takes every correction that is
    neither under way nor in the live version: those of rejected, failed and cancelled jobs, and
    of versions that were rolled back. Without any, but with forgotten corrections in the live
    version, a job of no new corrections fits what is left again. `correction_ids` opens a job of
    just those. Raises NothingToEdit; CorrectionMissing for an id that cannot join.
    """
    take_turn(session)
    values = {"method": method, "config": dict(config), "seed": seed}
    if correction_ids is None and (gathering := find_open_job(session, base_digest)):
        closed = (
            update(EditJob)
            .where(EditJob.id == gathering.id, EditJob.open)
            .values(open=False, starts_at=now, **values)
            .returning(EditJob.id)
            .execution_options(synchronize_session=False)
        )
        if session.scalar(closed) is not None:
            return get_job(session, gathering.id)
    live = live_promotion(session).version
    joining = unapplied(session, live)
    if correction_ids is not None:
        for unknown in sorted(set(correction_ids) - set(joining)):
            raise CorrectionMissing(unknown)
        joining = sorted(set(correction_ids))
    if not joining and not _needs_refit(session, live, base_digest):
        raise NothingToEdit
    job = open_job(
        session,
        method=method,
        config=config,
        seed=seed,
        base_digest=base_digest,
        gathering=False,
        starts_at=now,
        now=now,
    )
    add_to_job(session, job.id, joining)
    if correction_ids is None:
        _note_emptied(session)
    return get_job(session, job.id)


def add_to_job(session: Session, job_id: str, correction_ids: Sequence[str]) -> None:
    """Let corrections join a job that this transaction has opened or holds. For this room."""
    if not correction_ids:
        return
    for some in batches(correction_ids):
        session.execute(
            update(Correction)
            .where(Correction.id.in_(some))
            .values(edit_job_id=job_id)
            .execution_options(synchronize_session=False)
        )
        rows = [{"job_id": job_id, "correction_id": one} for one in some]
        session.execute(insert(EditJobCorrection), rows)
    session.execute(
        update(EditJob)
        .where(EditJob.id == job_id)
        .values(size=EditJob.size + len(correction_ids))
        .execution_options(synchronize_session=False)
    )


def unapplied(session: Session, live: int) -> list[str]:
    """Ids of the corrections whose latest job ended without them being in the live version, oldest
    first. For writers that have their turn."""
    follow_live(session, live)
    jobs = session.scalars(select(EditJob.id).where(_came_to_nothing())).all()
    left: list[str] = []
    for some in batches(jobs, JOBS_AT_ONCE):
        left += session.scalars(
            select(Correction.id).where(Correction.edit_job_id.in_(some), *_standing())
        )
    found: list[str] = []
    for these in batches(sorted(left)):
        found += session.scalars(
            select(Correction.id).where(Correction.id.in_(these), ~in_live_version())
        )
    return sorted(found)


def unapplied_among(session: Session, live: int, ids: Sequence[str]) -> list[str]:
    """As `unapplied`, of these corrections, however many others there are."""
    follow_live(session, live)
    found: list[str] = []
    for some in batches(ids):
        found += session.scalars(
            select(Correction.id)
            .join(EditJob, Correction.edit_job_id == EditJob.id)
            .where(Correction.id.in_(some), *_standing(), _came_to_nothing(), ~in_live_version())
        )
    return sorted(found)


def _standing() -> tuple[ColumnElement[bool], ...]:
    return Correction.superseded_by.is_(None), Correction.forgotten_at.is_(None)


def _came_to_nothing() -> ColumnElement[bool]:
    """Once `follow_live` was called: whether a job ended without a version that is live now."""
    return and_(
        ~EditJob.emptied,
        or_(
            EditJob.status.in_(("rejected", "failed", "cancelled")),
            and_(EditJob.status == "succeeded", ~in_live_lineage(EditJob.adapter)),
        ),
    )


def _note_emptied(session: Session) -> None:
    """After all that came to nothing was taken up: the jobs that it left need no other look. Not
    many at once, because others wait for their turn; the next start notes more."""
    standing = exists().where(Correction.edit_job_id == EditJob.id, *_standing())
    emptied = select(EditJob.number).where(_came_to_nothing(), ~standing).limit(JOBS_AT_ONCE)
    numbers = session.scalars(emptied).all()
    session.execute(
        update(EditJob)
        .where(EditJob.number.in_(numbers))
        .values(emptied=True)
        .execution_options(synchronize_session=False)
    )


def _needs_refit(session: Session, live: int, base_digest: str) -> bool:
    """Whether what is merged for the live version was fitted on corrections forgotten since, and
    no queued job will leave them out anyway."""
    queued = select(EditJob.id).where(
        EditJob.base_digest == base_digest, EditJob.status == "queued"
    )
    return session.scalar(queued.limit(1)) is None and knows_forgotten(session, live)


def cancel_emptied_jobs(session: Session, job_ids: Iterable[str], *, now: datetime) -> None:
    """Cancel queued jobs whose corrections were all superseded or forgotten. For this room."""
    remaining = (
        exists()
        .where(EditJobCorrection.job_id == EditJob.id)
        .where(EditJobCorrection.correction_id == Correction.id, *_standing())
    )
    session.execute(
        update(EditJob)
        .where(EditJob.id.in_(sorted(set(job_ids))), EditJob.status == "queued", ~remaining)
        .values(status="cancelled", open=False, finished_at=now)
        .execution_options(synchronize_session=False)
    )


def cancel_job(session: Session, job_id: str, *, now: datetime) -> EditJob:
    """Queued: cancelled at once. Running: asked to stop. Raises JobMissing, JobFinished."""
    job = session.scalar(
        select(EditJob)
        .where(EditJob.id == job_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if job is None:
        raise JobMissing(job_id)
    if job.status == "queued":
        return end_job(session, job, "cancelled", now)
    if job.status != "running":
        raise JobFinished(job_id, job.status)
    job.cancel_requested = True
    session.flush()
    return job


def end_job(session: Session, job: EditJob, status: str, now: datetime) -> EditJob:
    job.status = status
    job.open = False
    job.finished_at = now
    session.flush()
    return job
