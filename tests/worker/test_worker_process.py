"""Real worker processes: killed, stopped, cancelled and overtaken in the middle of a job."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import psutil
import pytest
from sqlalchemy import text

from registry.edit_jobs import cancel_job
from registry.session import transaction
from tests.support.running_worker import Desk, WorkerProcesses

PICTURES = [("apple", 1), ("apple", 2), ("leaf", 1), ("sea", 1)]
PHASES = ("waiting", "scoring", "training", "gating", "storing", "promoting")


@pytest.fixture
def broker(database: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The embedded one beside SQLite, Redis beside PostgreSQL."""
    if database == "sqlite":
        return {}
    return {"BROKER_URL": request.getfixturevalue("redis_url")}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_killed_in_every_phase_the_job_is_finished_once(
    desk: Desk, processes: WorkerProcesses
) -> None:
    job_id = desk.correct(PICTURES).edit_job.id
    for lost, phase in enumerate(PHASES):
        worker = processes.start(hold=phase, MAX_ATTEMPTS="10")
        processes.wait_until_held()
        processes.wait(lambda: desk.job(job_id).progress["phase"] == phase, f"{phase} in the row")  # noqa: B023
        job = desk.job(job_id)
        assert (job.status, job.attempt, job.lost) == ("running", lost + 1, lost)
        processes.kill(worker)
        assert desk.versions() == [0]
        assert desk.promoted() == [0]
    worker = processes.start(MAX_ATTEMPTS="10")
    job = processes.wait_until_ended(job_id)
    assert (job.status, job.attempt, job.adapter) == ("succeeded", 7, 1)
    assert desk.versions() == [0, 1]
    assert desk.promoted() == [0, 1]
    assert processes.stop(worker) == 0


def test_cancelled_overtaken_and_stopped_while_training(
    desk: Desk, processes: WorkerProcesses
) -> None:
    worker = processes.start(hold="training")
    processes.wait(lambda: psutil.Process(worker.pid).nice() == 19, "the lowest priority")
    # Cancelled: the job ends, the worker goes on.
    cancelled = desk.correct(PICTURES[:1]).edit_job.id
    processes.wait_until_held()
    with transaction(desk.engine) as session:
        cancel_job(session, cancelled, now=datetime.now(UTC))
    assert processes.wait_until_ended(cancelled).status == "cancelled"
    processes.hold_again()

    # A first version, to roll back from later.
    first = desk.correct(PICTURES[1:]).edit_job.id
    processes.wait_until_held()
    processes.go()
    assert processes.wait_until_ended(first).adapter == 1
    processes.hold_again()

    # Rolled back in mid-training: fitted again on what is live now.
    second = desk.correct([("leaf", 7)]).edit_job.id
    processes.wait_until_held()
    assert desk.job(second).parent == 1
    processes.hold_again()
    desk.promote(0)
    processes.wait_until_held()
    job = desk.job(second)
    assert (job.parent, job.attempt, job.lost) == (0, 2, 0)

    # Asked to stop in mid-training: the job returns to the queue, the exit code is 0.
    assert processes.stop(worker) == 0
    assert desk.job(second).status == "queued"
    processes.start()
    job = processes.wait_until_ended(second)
    assert (job.status, job.parent, job.adapter) == ("succeeded", 0, 2)
    assert desk.promoted() == [0, 1, 0, 2]


def test_stopped_and_killed_in_a_long_step_the_job_has_lost_no_attempt(
    desk: Desk, processes: WorkerProcesses
) -> None:
    job_id = desk.correct(PICTURES).edit_job.id
    worker = processes.start(hold="training", deaf=True, MAX_ATTEMPTS="1", LEASE="60")
    processes.wait_until_held()
    worker.terminate()
    processes.wait(lambda: desk.job(job_id).status == "queued", "the job to be given back")
    assert worker.poll() is None
    processes.kill(worker)
    processes.start(MAX_ATTEMPTS="1")
    job = processes.wait_until_ended(job_id)
    assert (job.status, job.attempt, job.lost) == ("succeeded", 2, 0)


def test_says_in_one_sentence_why_it_cannot_start(processes: WorkerProcesses) -> None:
    worker = processes.start(ENCODER=os.devnull)
    assert worker.wait(timeout=60) == 1
    assert "The worker cannot start: no encoder '/dev/null'" in processes.log().splitlines()[-1]
    assert "Traceback" not in processes.log()


def test_ends_when_it_can_no_longer_look_after_jobs(desk: Desk, processes: WorkerProcesses) -> None:
    desk.correct(PICTURES[:1])
    with desk.engine.begin() as connection:  # a row that nobody foresaw
        connection.execute(
            text("UPDATE edit_jobs SET status = 'running', progress = '{', heartbeat = :long_ago"),
            {"long_ago": "2000-01-01 00:00:00.000000"},
        )
    assert processes.start().wait(timeout=60) == 1
    assert "the sweep ended unexpectedly" in processes.log()
