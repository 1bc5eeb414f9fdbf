"""A request that nobody can answer in time is answered all the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, Counter
from starlette.responses import StreamingResponse

from app.deadline import GRACE, Deadline, uncounted
from registry.patience import seconds_left
from tests.support.service import problem_of
from tests.support.waiting import wait_for

SECONDS = 0.3
SOON = 5.0  # what the service promises, however busy this machine is


class Service:
    """Paths that take their time, under the deadline, on a real port."""

    def __init__(self) -> None:
        self.counted = Counter("problems", "-", ("type",), registry=CollectorRegistry())
        self.go_on = threading.Event()
        self.began = 0
        self.ended = 0
        self.one_at_a_time = CapacityLimiter(1)
        self.app = FastAPI()
        self.app.add_middleware(Deadline, counted=self.counted, seconds=SECONDS)
        self.app.get("/stuck")(self._stuck)
        self.app.post("/promotions")(self._stuck)
        self.app.post("/corrections")(self._stuck)
        self.app.post("/read")(self._read)
        self.app.post("/spool")(self._spool)
        self.app.get("/compute")(self._compute)
        self.app.get("/events")(self._events)

    async def _stuck(self) -> None:
        await to_thread.run_sync(self._wait, limiter=self.one_at_a_time)

    def _wait(self) -> None:
        self.began += 1
        assert self.go_on.wait(30)
        self.ended += 1

    async def _read(self, request: Request) -> int:
        return len(await request.body())

    async def _spool(self, request: Request) -> int:
        """Takes its time with every part, not too long with any."""
        parts = 0
        async for part in request.stream():
            await asyncio.sleep(SECONDS * 0.8 if part else 0)
            parts += bool(part)
        return parts

    async def _compute(self) -> float | None:
        with uncounted():
            await asyncio.sleep(SECONDS + 2 * GRACE)
        return seconds_left()

    async def _events(self) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            for number in range(3):
                yield f"{number} {seconds_left()}\n"
                await asyncio.sleep(SECONDS)

        return StreamingResponse(events())


@contextmanager
def served(service: Service) -> Iterator[httpx.Client]:
    config = uvicorn.Config(service.app, port=0, log_level="error", loop="asyncio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, seconds=30, what="the server")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            yield http
    finally:
        service.go_on.set()
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with served(service) as http:
        yield http


@pytest.mark.parametrize(
    ("method", "path", "advice"),
    [
        ("GET", "/stuck", "ask again"),
        ("POST", "/corrections", "sending it again does no harm"),
        ("POST", "/promotions", "look at GET /promotions before you send it again"),
    ],
)
def test_what_hangs_is_answered_with_what_to_do(
    service: Service, http: httpx.Client, method: str, path: str, advice: str
) -> None:
    began = time.monotonic()
    answer = http.request(method, path)
    assert SECONDS <= time.monotonic() - began < SOON
    problem = problem_of(answer, 503)
    assert problem["type"].endswith("no-answer-in-time")
    assert problem["detail"].endswith(advice)
    assert int(answer.headers["retry-after"]) > 0
    assert service.counted.labels("no-answer-in-time")._value.get() == 1
    # The connection is good for more while the thread is still at it.
    assert http.post("/read", content=b"x").json() == 1
    assert (service.began, service.ended) == (1, 0)


def test_who_still_waits_for_a_turn_is_sent_away_and_never_begins(
    service: Service, http: httpx.Client
) -> None:
    def ask(_: int) -> float:
        began = time.monotonic()
        problem_of(http.get("/stuck"), 503)
        return time.monotonic() - began

    with ThreadPoolExecutor(20) as clients:
        assert max(clients.map(ask, range(20))) < SOON
    service.go_on.set()
    wait_for(lambda: service.ended, seconds=5, what="the one that had begun to end")
    assert http.get("/stuck").status_code == 200
    assert (service.began, service.ended) == (2, 2)


def test_a_client_that_sends_slowly_is_waited_for(http: httpx.Client) -> None:
    pause = threading.Event()

    def slowly() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x"
            pause.wait(SECONDS)

    assert http.post("/read", content=slowly()).json() == 4


def test_a_body_that_takes_long_to_take_in_is_no_outage(http: httpx.Client) -> None:
    """Larger than what the server holds of a body at once, so that it comes in parts."""
    pause = threading.Event()

    def parts() -> Iterator[bytes]:
        for _ in range(6):
            yield b"x" * 100_000
            pause.wait(SECONDS / 10)

    assert http.post("/spool", content=parts()).json() > (SECONDS + GRACE) / (SECONDS * 0.8) + 1


def test_computation_of_our_own_is_not_counted(http: httpx.Client) -> None:
    left = http.get("/compute").json()
    assert 0 < left <= SECONDS


def test_a_stream_that_has_begun_goes_on_without_a_clock(http: httpx.Client) -> None:
    assert http.get("/events").text == "0 None\n1 None\n2 None\n"
