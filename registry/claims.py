"""The worker's side of edit jobs: claimed by one worker at a time, ended once.

A claim is a compare-and-set on the status; the database itself refuses a second running job of one
base encoder (partial unique index). Every write of a running job names its attempt: a worker whose
job was taken back gets ClaimLost and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry.edit_jobs import WAITING, end_job, get_job
from registry.errors import ClaimLost
from registry.promotions import find_live_promotion
from registry.session import storable
from registry.tables import EditJob


def claim_job(session: Session, *, worker: str, now: datetime) -> EditJob | None:
    """Take the oldest due job: running, attempt + 1, parent = the live version.

    None when nothing is due, another job of the same base encoder runs, or another worker was
    quicker.
    """
    running = select(EditJob.base_digest).where(EditJob.status == "running")
    oldest = (
        select(EditJob.id)
        .where(
            EditJob.status == "queued",
            EditJob.starts_at <= now,
            EditJob.base_digest.not_in(running),
        )
        .order_by(EditJob.number)
        .limit(1)
    )
    job_id = session.scalar(oldest)
    if job_id is None or not _claim(session, job_id, worker, now):
        return None
    live = find_live_promotion(session)
    job = get_job(session, job_id)
    job.parent = live.version if live else None
    session.flush()
    return job


def _claim(session: Session, job_id: str, worker: str, now: datetime) -> bool:
    claim = (
        update(EditJob)
        .where(EditJob.id == job_id, EditJob.status == "queued")
        .values(
            status="running",
            open=False,
            attempt=EditJob.attempt + 1,
            worker=worker,
            heartbeat=now,
            started_at=now,
            progress=dict(WAITING),
        )
        .returning(EditJob.id)
        .execution_options(synchronize_session=False)
    )
    try:
        with session.begin_nested():
            return session.scalar(claim) is not None
    except IntegrityError:  # another job of this base encoder has just begun to run
        return False


def is_any_running(session: Session) -> bool:
    """Whether a job is in some worker's hands."""
    return (
        session.scalar(select(EditJob.id).where(EditJob.status == "running").limit(1)) is not None
    )


def hold_claim(session: Session, job_id: str, attempt: int) -> EditJob:
    """First step of a writing transaction of a running job: nobody takes the job back before it
    ends. Raises ClaimLost.
    """
    query = (
        select(EditJob)
        .where(EditJob.id == job_id, EditJob.attempt == attempt, EditJob.status == "running")
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    job = session.scalar(query)
    if job is None:
        raise ClaimLost(job_id, attempt)
    return job


def heartbeat(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    progress: Mapping[str, Any] | None = None,
    now: datetime,
) -> bool:
    """Say that the attempt lives; True when its cancellation was asked for. Raises ClaimLost.

    A number that is not finite is kept as None: JSON has none such.
    """
    values: dict[str, Any] = {"heartbeat": now}
    if progress is not None:
        values["progress"] = {key: storable(value) for key, value in progress.items()}
    beat = (
        update(EditJob)
        .where(EditJob.id == job_id, EditJob.attempt == attempt, EditJob.status == "running")
        .values(values)
        .returning(EditJob.cancel_requested)
        .execution_options(synchronize_session=False)
    )
    cancelled = session.scalar(beat)
    if cancelled is None:
        raise ClaimLost(job_id, attempt)
    return bool(cancelled)


def finish_job(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    status: Literal["succeeded", "rejected", "cancelled"],
    adapter: int | None = None,
    report: Mapping[str, Any] | None = None,
    now: datetime,
) -> EditJob:
    """End a running job. Raises ClaimLost."""
    job = hold_claim(session, job_id, attempt)
    job.adapter = adapter
    job.report = dict(report) if report is not None else None
    return end_job(session, job, status, now)


def fail_job(
    session: Session, job_id: str, attempt: int, *, error: Mapping[str, Any], now: datetime
) -> EditJob:
    """End a running job with the error that stopped it. Raises ClaimLost."""
    job = hold_claim(session, job_id, attempt)
    job.error = dict(error)
    return end_job(session, job, "failed", now)


def release_job(session: Session, job_id: str, attempt: int, *, now: datetime) -> EditJob:
    """Give a running job back unharmed, to be claimed again: queued, or cancelled when that was
    asked for. Does not count towards the attempts that a poisonous job may take. Raises ClaimLost.
    """
    job = hold_claim(session, job_id, attempt)
    return _given_back(session, job, now)


def reclaim_expired(
    session: Session, *, now: datetime, lease: timedelta, max_attempts: int
) -> list[str]:
    """Take back running jobs whose heartbeat is older than `lease`; ids of all of them.

    They are queued again; cancelled when that was asked for; failed, with the last progress in
    the error, once `max_attempts` attempts were lost.
    """
    expired = (
        select(EditJob)
        .where(EditJob.status == "running", EditJob.heartbeat < now - lease)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    )
    jobs: Sequence[EditJob] = session.scalars(expired).all()
    for job in jobs:
        job.lost += 1
        if job.lost >= max_attempts and not job.cancel_requested:
            job.error = {
                "type": "worker-lost",
                "detail": f"the worker stopped answering in {job.lost} attempts",
                "attempts": job.lost,
                "worker": job.worker,
                "progress": job.progress,
            }
            end_job(session, job, "failed", now)
        else:
            _given_back(session, job, now)
    return [job.id for job in jobs]


def _given_back(session: Session, job: EditJob, now: datetime) -> EditJob:
    if job.cancel_requested:
        return end_job(session, job, "cancelled", now)
    job.status = "queued"
    job.worker = None
    job.heartbeat = None
    job.started_at = None
    job.parent = None
    job.progress = dict(WAITING)
    session.flush()
    return job
