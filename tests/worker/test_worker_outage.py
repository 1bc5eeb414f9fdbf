"""A worker whose broker is gone, and one that is frozen while it trains: real processes."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from app.edit_queue import EditQueue
from registry import schema
from registry.broker import QUEUE
from servers.postgres import create_database, started_server
from servers.postgres import why_absent as why_no_postgres
from servers.redis import RedisServer, why_absent
from tests.support.freezing import frozen
from tests.support.running_worker import LEASE_SECONDS, Desk, WorkerProcesses, open_desk
from tests.support.servers import require_server
from tests.support.waiting import wait_for

PICTURES = [("apple", 1), ("apple", 2), ("leaf", 1), ("sea", 1)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that may be frozen and stopped."""
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def test_a_broker_that_goes_in_the_middle_of_a_job_stops_nothing_and_is_heard_again(
    desk: Desk, processes: WorkerProcesses, redis: RedisServer
) -> None:
    worker = processes.start(hold="training", BROKER_URL=redis.url)
    first = desk.correct(PICTURES[:2]).edit_job.id
    processes.wait_until_held()
    redis.stop()
    processes.go()
    assert processes.wait_until_ended(first).status == "succeeded"
    numbers = itertools.count(1)

    def runs_aside() -> bool:
        """What comes before the nudged turn is over still runs in that turn: send until it is."""
        job = processes.wait_until_ended(desk.correct([("sea", next(numbers))]).edit_job.id)
        assert (job.status, job.attempt, job.lost) == ("succeeded", 1, 0)
        return "runs without the broker" in processes.log()

    processes.wait(runs_aside, "a job that runs without the broker")
    redis.start()
    nudges = EditQueue(redis.url, desk.folder)
    nudges.nudge("nothing")
    nudges.stop()
    with Redis.from_url(redis.url) as client:
        processes.wait(lambda: client.llen(QUEUE) == 0, "the worker to take nudges again")
        last = desk.correct(PICTURES[2:3]).edit_job.id
        assert processes.wait_until_ended(last).status == "succeeded"
        processes.wait(lambda: client.llen(QUEUE) == 0, "the worker to take the last nudge")
    assert worker.poll() is None
    assert desk.promoted() == list(range(next(numbers) + 2))  # the first and the last job, too
    assert processes.stop(worker) == 0


_LOCK = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], timeout=0.1, uri=True).execute("BEGIN IMMEDIATE")
"""


def _freeze_between_writes(desk: Desk, worker: subprocess.Popen[bytes]) -> ExitStack:
    """Frozen while it holds no lock of the database: SQLite's would lock everybody out.

    Asked by a process of its own. What this one has open it shares among its connections, so that
    it gets past locks that keep a new process from opening the file.
    """
    database = desk.engine.url.database
    assert database is not None
    ask = [sys.executable, "-c", _LOCK, f"file:{database}?mode=rw"]

    def attempt() -> ExitStack | None:
        until_thawed = ExitStack()
        until_thawed.enter_context(frozen(worker.pid))
        if subprocess.run(ask, check=False, capture_output=True).returncode:
            until_thawed.close()
            return None
        return until_thawed

    return wait_for(attempt, seconds=60, what="a moment between two writes")


@pytest.mark.parametrize("deaf", [False, True], ids=["listening", "deaf"])
def test_a_worker_that_was_frozen_in_training_writes_nothing_when_it_wakes_up(
    desk: Desk, processes: WorkerProcesses, *, deaf: bool
) -> None:
    """Deaf: it hears nothing from its pulse and goes on to the very last write."""
    job_id = desk.correct(PICTURES).edit_job.id
    first = processes.start(hold="training", deaf=deaf)
    processes.wait_until_held()
    with _freeze_between_writes(desk, first):
        other = processes.start()  # which takes the job once the lease is over
        job = processes.wait_until_ended(job_id)
        assert (job.status, job.attempt, job.lost, job.adapter) == ("succeeded", 2, 1, 1)
        assert desk.promoted() == [0, 1]
        ended_at, holder = job.finished_at, job.worker
    processes.go()
    said = f"edit job {job_id} goes on elsewhere"
    processes.wait(lambda: said in processes.log(), "the first worker to stop")
    job = desk.job(job_id)
    assert (job.attempt, job.finished_at, job.worker) == (2, ended_at, holder)
    assert (desk.versions(), desk.promoted()) == ([0, 1], [0, 1])
    # Both are of use again.
    assert processes.stop(other) == 0
    processes.hold_again()
    processes.go()
    again = desk.correct([("leaf", 7)]).edit_job.id
    assert processes.wait_until_ended(again).status == "succeeded"
    assert processes.stop(first) == 0


def test_a_database_that_was_frozen_for_longer_than_the_lease_gets_each_job_once(
    tmp_path: Path,
) -> None:
    """Whichever worker's beat or sweep comes first when it wakes up: one of them goes on."""
    require_server(why_no_postgres(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with started_server() as server, ExitStack() as until_stopped:
        database = create_database(server.url, "emend")
        schema.upgrade(database)
        desk = until_stopped.enter_context(open_desk(tmp_path, database_url=database))
        processes = WorkerProcesses(desk)
        until_stopped.callback(processes.close)
        job_id = desk.correct(PICTURES).edit_job.id
        processes.start(hold="training", deaf=True)
        processes.wait_until_held()
        other = processes.start()
        processes.wait(lambda: processes.log().count(" edits ") == 2, "the other worker")
        assert server.process is not None
        with frozen(server.process.pid):
            threading.Event().wait(3 * LEASE_SECONDS)
        processes.go()
        job = processes.wait_until_ended(job_id)
        assert job.status == "succeeded"
        assert (desk.versions(), desk.promoted()) == ([0, 1], [0, 1])
        again = desk.correct([("leaf", 7)]).edit_job.id
        assert processes.wait_until_ended(again).status == "succeeded"
        assert desk.promoted() == [0, 1, 2]
        assert processes.stop(other) == 0
