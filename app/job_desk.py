"""Edit jobs as the contract describes them: a row and its corrections."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.base_row import base_digest_of
from app.config_check import check_config
from app.schemas.edit_jobs import EditJobDetail, EditJobPage, EditJobRequest
from app.services import Services
from registry.corrections import correction_ids_of
from registry.edit_jobs import cancel_job, get_job, list_jobs, start_job
from registry.session import reading, transaction
from registry.tables import EditJob


def start(engine: Engine, asked: EditJobRequest) -> EditJobDetail:
    """A job that is due now. Raises what `check_config` and `start_job` raise, and `NotReady`."""
    with transaction(engine) as session:
        check_config(session, asked.method, asked.config)
        job = start_job(
            session,
            method=asked.method,
            config=asked.config,
            seed=asked.seed,
            base_digest=base_digest_of(session),
            now=datetime.now(UTC),
        )
        return _state(session, job)


def cancel(engine: Engine, job_id: str) -> EditJobDetail:
    """Cancels a job, and tells how it stands then. Raises what `cancel_job` raises."""
    with transaction(engine) as session:
        return _state(session, cancel_job(session, job_id, now=datetime.now(UTC)))


def job_state(engine: Engine, job_id: str) -> EditJobDetail:
    """A job as it stands. Raises `JobMissing`."""
    with reading(engine) as session:
        return _state(session, get_job(session, job_id))


def _state(session: Session, job: EditJob) -> EditJobDetail:
    return EditJobDetail.of(job, correction_ids_of(session, [job.id])[job.id])


def served_state(services: Services, job_id: str) -> EditJobDetail:
    """A job as it stands; what it made live answers here by now. Raises `JobMissing`."""
    state = job_state(services.engine, job_id)
    if state.status == "succeeded":
        services.encoder.catch_up()
    return state


def served_page(services: Services, cursor: str | None, limit: int) -> EditJobPage:
    """One page of jobs, newest first; what they made live answers here by now.

    Raises `CursorInvalid`.
    """
    with reading(services.engine) as session:
        page = list_jobs(session, cursor=cursor, limit=limit)
        joined = correction_ids_of(session, [job.id for job in page.items])
    services.encoder.catch_up()
    return EditJobPage(
        edit_jobs=[EditJobDetail.of(job, joined[job.id]) for job in page.items],
        next=page.next_cursor,
    )
