"""Takes due jobs from the database one after another and sees each to an end.

The row is the truth: whatever woke the worker, it claims the oldest due job; a second wake-up finds
nothing to claim and does nothing.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any

from editing.errors import EditCancelled, EditError
from encoder.errors import EncoderError
from registry.claims import claim_job, fail_job, finish_job, heartbeat, release_job
from registry.edit_jobs import WAITING
from registry.errors import ClaimLost, DatabaseUnavailable, RegistryError, StorageUnavailable
from registry.session import transaction
from registry.tables import EditJob
from worker.edit_job import run_edit
from worker.errors import ClaimMoved, JobInterrupted, WorkerError, WorkerStopping
from worker.heartbeat import Pulse
from worker.workshop import Workshop

log = logging.getLogger(__name__)


def run_due_jobs(workshop: Workshop) -> None:
    """Runs jobs until none is due or the worker is asked to stop."""
    while not workshop.stopping.is_set():
        with transaction(workshop.engine) as session:
            job = claim_job(session, worker=workshop.name, now=datetime.now(UTC))
        if job is None:
            return
        run_claimed(workshop, job)


def run_claimed(workshop: Workshop, job: EditJob) -> None:
    """Runs a claimed job and records how it ended.

    What nobody foresaw is recorded as the job's error and raised again. A database or a store that
    cannot be reached is raised only: the claim runs out and the job returns to the queue, as often
    as attempts may be lost.
    """
    log.info("edit job %s begins, attempt %d, on version %s", job.id, job.attempt, job.parent)
    try:
        _run_and_record(workshop, job)
    except (ClaimLost, ClaimMoved) as lost:
        log.warning("edit job %s goes on elsewhere: %s", job.id, lost)


def _run_and_record(workshop: Workshop, job: EditJob) -> None:
    try:
        status = _run(workshop, job)
        log.info("edit job %s %s", job.id, status)
    except EditCancelled:
        _end_cancelled(workshop, job)
    except (ClaimLost, ClaimMoved, DatabaseUnavailable):
        raise
    except StorageUnavailable as outage:
        _note(workshop, job, outage)
        raise
    except JobInterrupted as interruption:
        _give_back(workshop, job, interruption)
    except (EditError, EncoderError, RegistryError, WorkerError) as error:
        _fail(workshop, job, error)
    except Exception as error:  # the edge of this process: recorded, then raised
        _fail(workshop, job, error)
        raise


def _run(workshop: Workshop, job: EditJob) -> str:
    parent = job.parent or 0
    pulse = Pulse(
        workshop.engine,
        job,
        parent=parent,
        every=workshop.settings.heartbeat,
        lease=workshop.settings.lease,
        stopping=workshop.stopping.is_set,
    )
    with pulse:
        return run_edit(workshop, job, parent=parent, progress=pulse.report)


def _end_cancelled(workshop: Workshop, job: EditJob) -> None:
    with transaction(workshop.engine) as session:
        finish_job(session, job.id, job.attempt, status="cancelled", now=datetime.now(UTC))
    log.info("edit job %s cancelled", job.id)


def _note(workshop: Workshop, job: EditJob, outage: StorageUnavailable) -> None:
    """Keeps with the job what this attempt is lost to; its last one then says so."""
    progress = {**WAITING, "trouble": str(outage)}
    with transaction(workshop.engine) as session:
        heartbeat(session, job.id, job.attempt, progress=progress, now=datetime.now(UTC))


def _give_back(workshop: Workshop, job: EditJob, interruption: JobInterrupted) -> None:
    try:
        with transaction(workshop.engine) as session:
            release_job(session, job.id, job.attempt, now=datetime.now(UTC))
    except ClaimLost:
        if not isinstance(interruption, WorkerStopping):  # then its pulse has given it back
            raise
    log.info("edit job %s returns to the queue: %s", job.id, interruption)


def _fail(workshop: Workshop, job: EditJob, error: Exception) -> None:
    log.error("edit job %s failed: %s", job.id, error)
    with transaction(workshop.engine) as session:
        fail_job(session, job.id, job.attempt, error=error_facts(error), now=datetime.now(UTC))


def error_facts(error: Exception) -> dict[str, Any]:
    """An error as a job keeps it: a stable name made from its class, and its sentence."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", type(error).__name__)
    return {"type": "-".join(words).lower(), "detail": str(error) or type(error).__name__}
