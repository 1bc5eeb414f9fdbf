"""What breaks in a deployed stack, broken for real: nothing accepted is lost, nobody waits long."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from client import EmendClient
from demo.photos import Pictures, digits
from tests.support.deployed import begin_job, times_promoted
from tests.support.pictures import first_of_each
from tests.support.stack import Stack
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]
ANSWER_SECONDS = 5.0
SLACK_SECONDS = 2.0  # of a busy machine with two cores
BACK_SECONDS = 120


def _given(seed: int) -> Pictures:
    return first_of_each(digits(seed=seed).corrections, 2, labels=3)


@contextmanager
def _asking(url: str) -> Iterator[list[tuple[int, float]]]:
    """Classifies all the time: (status, seconds) of every answer; status 0: it broke off."""
    image = _given(9).images[0]
    answers: list[tuple[int, float]] = []
    enough = Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while not enough.wait(0.05):
                began = time.monotonic()
                try:
                    sent = {"files": {"image": image}, "data": {"label": ["one", "two"]}}
                    answer = http.post("/classify", **sent)  # type: ignore[arg-type]
                    status = answer.status_code
                except httpx.TransportError:
                    status = 0
                answers.append((status, time.monotonic() - began))

    thread = Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        enough.set()
        thread.join()


def _restarted(stack: Stack, container: str, since: int) -> Callable[[], bool]:
    def check() -> bool:
        state = stack.inspect(container)
        healthy: bool = state["State"]["Health"]["Status"] == "healthy"
        return healthy and int(state["RestartCount"]) > since

    return check


def test_a_killed_worker_comes_back_and_its_job_is_done_once(
    service: EmendClient, stack: Stack
) -> None:
    job = begin_job(service, seed=11)
    worker = f"{stack.project}-worker-1"
    restarts = int(stack.inspect(worker)["RestartCount"])
    stack.signal(worker, "worker", signal.SIGKILL)
    ended = service.wait_job(job)
    assert ended["attempt"] == 2
    assert _restarted(stack, worker, restarts)()
    assert times_promoted(service, ended["adapter"]) == 1


def test_another_worker_takes_over_from_a_frozen_one(service: EmendClient, stack: Stack) -> None:
    stack.up("--scale", "worker=2")
    job = begin_job(service, seed=12)
    (holder,) = (each for each in stack.containers("worker") if job in stack.said_by(each))
    stack.signal(holder, "worker", signal.SIGSTOP)
    try:
        ended = service.wait_job(job)
    finally:
        stack.signal(holder, "worker", signal.SIGCONT)
    assert ended["attempt"] == 2
    wait_for(
        lambda: stack.inspect(holder)["State"]["Health"]["Status"] == "healthy",
        seconds=BACK_SECONDS,
        what="the worker that was frozen",
    )
    assert times_promoted(service, ended["adapter"]) == 1


def test_with_three_replicas_a_crash_is_hardly_seen(service: EmendClient, stack: Stack) -> None:
    assert service.get("/health/live")
    stack.up("--scale", "api=3")
    victim = stack.containers("api")[0]
    restarts = int(stack.inspect(victim)["RestartCount"])
    with _asking(stack.url) as answers:
        wait_for(lambda: len(answers) > 5, seconds=30, what="answers")
        stack.signal(victim, "app", signal.SIGKILL)
        wait_for(_restarted(stack, victim, restarts), seconds=BACK_SECONDS, what="the replica")
    broken = [status for status, _ in answers if status == 0]
    assert len(broken) <= 1  # the one that the victim was answering
    assert sum(status == 200 for status, _ in answers) > len(answers) / 2
    assert max(seconds for _, seconds in answers) <= ANSWER_SECONDS + SLACK_SECONDS


def test_without_any_replica_the_door_asks_to_come_again(
    service: EmendClient, stack: Stack
) -> None:
    assert service.get("/health/live")
    stack.run("stop", "api")
    answer = httpx.get(f"{stack.url}/adapters/live")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    stack.up()
    assert service.get("/adapters/live")


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_restarted_server_costs_nothing_that_was_accepted(
    service: EmendClient, stack: Stack, server: str
) -> None:
    job = begin_job(service, seed=13 if server == "redis" else 14)
    with _asking(stack.url) as answers:
        stack.run("restart", server)
        stack.up()
        asked = len(answers)
        wait_for(lambda: len(answers) > asked + 1, seconds=BACK_SECONDS, what="answers afterwards")
    assert {status for status, _ in answers} <= {200, 503}
    assert answers[-1][0] == 200
    assert max(seconds for _, seconds in answers) <= ANSWER_SECONDS + SLACK_SECONDS
    assert service.wait_job(job)["status"] == "succeeded"


def test_a_frozen_database_is_answered_with_503_in_time(service: EmendClient, stack: Stack) -> None:
    """Its processes are stopped one by one: pausing a container can hang with a health check."""
    given = _given(15)
    (database,) = stack.containers("postgres")
    with _frozen(stack.processes(database)):
        began = time.monotonic()
        answer = _send(stack, given)
        seconds = time.monotonic() - began
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert seconds <= ANSWER_SECONDS + SLACK_SECONDS
    wait_for(
        lambda: _send(stack, given).status_code == 202,
        seconds=BACK_SECONDS,
        what="a correction that is taken",
    )
    (job,) = service.correct(given.images, given.labels)
    assert service.wait_job(job)["status"] in {"succeeded", "rejected"}


def _send(stack: Stack, given: Pictures) -> httpx.Response:
    files: Any = [("image", image) for image in given.images]
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        return http.post("/corrections", files=files, data={"label": given.labels})


@contextmanager
def _frozen(processes: Sequence[int]) -> Iterator[None]:
    """They stand still, and keep their connections."""
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
