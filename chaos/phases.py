"""Strikes a worker in a given phase of its job.

Phases can last a millisecond. So once a job runs, its worker is let go for a moment, stopped,
looked at in the database while it stands still, let go again: a phase that was seen is still the
one it is in when SIGKILL comes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from chaos.lookout import Connection, RunningJob, looking, phase_of, running_job
from chaos.stack import Stack

PHASES = ("waiting", "scoring", "training", "gating", "storing", "promoting")
FAR_SECONDS = 0.02
NEAR_SECONDS = 0.001
"""How long the worker runs between two looks, while its phase is not the one before."""


def kill_in_phase(stack: Stack, phase: str, *, seconds: float) -> bool:
    """Whether a worker was killed in that phase before the time was over.

    Raises psycopg.OperationalError where the database does not answer.
    """
    with looking(stack.database_url) as connection:
        caught = catch_in_phase(stack, connection, phase, seconds=seconds)
        if caught is None:
            return False
        stack.kill(caught.worker)
        return True


@dataclass(frozen=True)
class Caught:
    """A worker that stands still in the middle of a job."""

    worker: str
    job: RunningJob


def catch_in_phase(
    stack: Stack, connection: Connection, phase: str, *, seconds: float
) -> Caught | None:
    """Pauses a worker in that phase of a job; None when the time is over first.

    Raises psycopg.OperationalError where the database does not answer.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = running_job(connection)
        worker = None if job is None else stack.worker_called(job.worker)
        if job is None or worker is None:
            time.sleep(NEAR_SECONDS)
        elif _step_to(stack, connection, worker, job, phase):
            return Caught(worker, job)
    return None


def _step_to(
    stack: Stack, connection: Connection, worker: str, job: RunningJob, wanted: str
) -> bool:
    """Follows one attempt; False when it has gone beyond the phase, or has ended. Where it is True
    the worker stands still."""
    while True:
        stack.pause(worker)
        found: str | None = None
        try:
            found = phase_of(connection, job)
        finally:
            if found != wanted:
                stack.resume(worker)
        if found == wanted:
            return True
        if found is None or PHASES.index(found) > PHASES.index(wanted):
            return False
        near = PHASES.index(found) + 1 >= PHASES.index(wanted)
        time.sleep(NEAR_SECONDS if near else FAR_SECONDS)
