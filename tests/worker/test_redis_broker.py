"""Nudges through a real Redis server, from the API's queue code to real worker processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from registry.broker import QUEUE, TASK
from servers.redis import RedisServer, why_absent
from tests.support.running_worker import ENDED, Desk, WorkerProcesses
from tests.support.servers import require_server
from worker.celery_app import make_app
from worker.settings import Settings

PICTURES = [("apple", 1), ("apple", 2), ("leaf", 1), ("sea", 1)]
UNACKNOWLEDGED = "unacked"  # kombu's hash of messages that were delivered and not acknowledged
ONE_DAY = 24 * 3600
NUDGE = """
import os, pathlib, sys
from app.edit_queue import EditQueue
url, data, *jobs = sys.argv[1:]
queue = EditQueue(url, pathlib.Path(data))
for job in jobs:
    queue.nudge(job)
queue.stop()
print(os.getpid())
"""


class Broker:
    """What lies in Redis, and the API's way to put it there."""

    def __init__(self, url: str, data: Path) -> None:
        self.client = Redis.from_url(url)
        self._url, self._data = url, data

    def nudge_from_the_api(self, *jobs: str) -> int:
        """In a process of its own, as the API does; its pid."""
        done = subprocess.run(
            [sys.executable, "-c", NUDGE, self._url, str(self._data), *jobs],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return int(done.stdout)

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """Headers of the messages that nobody has taken."""
        return [json.loads(message)["headers"] for message in self.client.lrange(QUEUE, 0, -1)]

    @property
    def taken(self) -> list[dict[str, Any]]:
        """Headers of the messages that a worker has and has not acknowledged."""
        found = self.client.hvals(UNACKNOWLEDGED)
        return [json.loads(message)[0]["headers"] for message in found]

    @property
    def empty(self) -> bool:
        return not self.waiting and not self.taken


@pytest.fixture
def messages(redis_url: str, desk: Desk) -> Iterator[Broker]:
    messages = Broker(redis_url, desk.folder / "data")
    yield messages
    messages.client.close()


def sent_by(header: dict[str, Any], pid: int) -> bool:
    return str(header["origin"]).startswith(f"gen{pid}@")


def test_the_apis_message_reaches_a_worker_which_takes_one_and_acknowledges_it_late(
    desk: Desk, processes: WorkerProcesses, messages: Broker, redis_url: str
) -> None:
    job_id = desk.correct(PICTURES).edit_job.id
    api = messages.nudge_from_the_api(job_id)
    (sent,) = messages.waiting
    assert (sent["task"], sent["argsrepr"]) == (TASK, f"['{job_id}']")

    worker = processes.start(hold="training", BROKER_URL=redis_url)
    processes.wait_until_held()
    (held,) = messages.taken
    assert held["id"] == sent["id"]
    assert sent_by(held, api)

    # In the middle of the job: the message is the worker's and not done with, others wait.
    messages.nudge_from_the_api(job_id, "another")
    assert [each["id"] for each in messages.taken] == [sent["id"]]
    assert len(messages.waiting) >= 2
    processes.go()
    job = processes.wait_until_ended(job_id)
    assert (job.status, job.attempt, job.adapter) == ("succeeded", 1, 1)
    processes.wait(lambda: messages.empty, "every message to be acknowledged")
    assert desk.versions() == [0, 1]
    assert processes.stop(worker) == 0


def test_a_killed_workers_job_is_finished_long_before_its_message_comes_back(
    desk: Desk, processes: WorkerProcesses, messages: Broker, redis_url: str
) -> None:
    job_id = desk.correct(PICTURES).edit_job.id
    messages.nudge_from_the_api(job_id)
    worker = processes.start(hold="training", BROKER_URL=redis_url)
    processes.wait_until_held()
    processes.kill(worker)
    lost = [each["id"] for each in messages.taken]
    assert len(lost) == 1

    worker = processes.start(BROKER_URL=redis_url)
    job = processes.wait_until_ended(job_id)
    assert (job.status, job.attempt, job.lost) == ("succeeded", 2, 1)
    processes.wait(lambda: not messages.waiting, "every other message to be taken")
    processes.wait(lambda: len(messages.taken) == 1, "every other message to be acknowledged")
    assert [each["id"] for each in messages.taken] == lost
    assert processes.stop(worker) == 0


def test_a_broker_that_restarts_in_the_middle_of_a_job_leaves_nobody_deaf(
    desk: Desk, processes: WorkerProcesses, tmp_path: Path
) -> None:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        first = desk.correct(PICTURES).edit_job.id
        worker = processes.start(hold="training", BROKER_URL=redis.url)
        processes.wait_until_held()
        redis.stop()
        processes.go()
        assert processes.wait_until_ended(first).status == "succeeded"
        redis.start()
        second = desk.correct([("leaf", 7)]).edit_job.id
        # Either it hears again by itself, or it ends and is started again.
        processes.wait(
            lambda: worker.poll() is not None or desk.job(second).status in ENDED, "any effect"
        )
        if worker.poll() is not None:
            assert worker.returncode == 1
            assert "nobody hears them" in processes.log()
            processes.start(BROKER_URL=redis.url)
        assert processes.wait_until_ended(second).status == "succeeded"
    finally:
        processes.close()
        redis.stop()


def test_a_job_of_hours_is_neither_stopped_nor_sent_again(redis_url: str, tmp_path: Path) -> None:
    app = make_app(Settings(broker_url=redis_url, data=tmp_path))
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_time_limit is None
    with app.connection_for_read() as connection:
        channel: Any = connection.channel()
        assert 6 * 3600 < channel.visibility_timeout < ONE_DAY
        channel.close()
