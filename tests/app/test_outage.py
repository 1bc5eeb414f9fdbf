"""The API while its database is frozen, locked or gone: a real PostgreSQL, a real API process.

Every answer comes within five seconds and is right, or a 503 that says when to come back. What was
accepted is there afterwards, once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from registry import schema
from registry.session import take_turn, transaction
from servers.postgres import PostgresServer, create_database, started_server, why_absent
from tests.support.api_process import ApiProcess, Deployment
from tests.support.freezing import frozen
from tests.support.servers import require_server
from tests.support.service import RunningService, picture, problem_of
from tests.support.waiting import wait_for

PROMISED_SECONDS = 5.0
AT_ONCE = 50
TURN = 0x454D454E44  # the advisory lock of `registry.session.take_turn`
USER = "emend"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with started_server() as server:
        yield server


@pytest.fixture(scope="module")
def api(
    server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path
) -> Iterator[ApiProcess]:
    """Asked once, so that everything has been loaded."""
    database = create_database(server.url, "emend")
    schema.upgrade(database)
    deployment = Deployment(tmp_path_factory.mktemp("outage"), database, tiny_encoder)
    with deployment.replica("api", EDIT_WAIT="3600", EDIT_BATCH="1000") as api:
        api.wait_until_ready()
        with httpx.Client(base_url=api.url, timeout=60) as http:
            http.put("/label-sets/pets", json={"labels": ["cat", "dog"]}).raise_for_status()
            for ask in EVERY_KIND:
                ask(http, 0)
        yield api


def _classify(http: httpx.Client, number: int) -> httpx.Response:
    data = {"label": ["a", "b"]}
    return http.post("/classify", files={"image": picture(number)}, data=data)


def _classify_by_set(http: httpx.Client, number: int) -> httpx.Response:
    data = {"label_set": "pets"}
    return http.post("/classify", files={"image": picture(number)}, data=data)


def _correct(http: httpx.Client, number: int) -> httpx.Response:
    return http.post("/corrections", files={"image": picture(number)}, data={"label": "cat"})


def _promote(http: httpx.Client, _: int) -> httpx.Response:
    return http.post("/promotions", json={"version": 0, "reason": "by a test"})


def _get(path: str) -> Callable[[httpx.Client, int], httpx.Response]:
    return lambda http, _: http.get(path)


EVERY_KIND = (
    _classify,
    _classify_by_set,
    _correct,
    _promote,
    _get("/corrections"),
    _get("/edit-jobs"),
    _get("/adapters/live"),
    _get("/promotions"),
    _get("/label-sets"),
    _get("/health/live"),
    _get("/health/ready"),
    _get("/metrics"),
)
NEEDS_NO_DATABASE = {"/classify inline", "/health/live", "/metrics"}


@dataclass(frozen=True)
class Asked:
    kind: str
    seconds: float
    answer: httpx.Response


def _ask_at_once(
    api: ApiProcess, *, first: int, before: Callable[[], object] | None = None
) -> list[Asked]:
    """Requests of every kind, all at the same time, on open connections, right after `before`;
    their pictures are numbered from `first`."""
    barrier = threading.Barrier(AT_ONCE, action=before)

    def ask(index: int) -> Asked:
        kind = EVERY_KIND[index % len(EVERY_KIND)]
        with httpx.Client(base_url=api.url, timeout=60) as http:
            http.get("/health/live")
            barrier.wait()
            began = time.monotonic()
            answer = kind(http, first + index)
            seconds = time.monotonic() - began
        path = answer.request.url.path
        name = "/classify inline" if kind is _classify else f"{answer.request.method} {path}"
        return Asked(name.removeprefix("GET "), seconds, answer)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(ask, range(AT_ONCE)))


def _check(asked: list[Asked], server: PostgresServer) -> None:
    """Right or refused, in time, and without telling who or where the database is."""
    slowest = max(asked, key=lambda each: each.seconds)
    assert slowest.seconds < PROMISED_SECONDS, (slowest.kind, slowest.answer.text)
    for each in asked:
        answer = each.answer
        if each.kind in NEEDS_NO_DATABASE:
            assert answer.status_code == 200, (each.kind, answer.text)
            continue
        if each.kind == "/health/ready" and answer.status_code == 200:
            continue  # as it stood a moment before
        problem = problem_of(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
        assert problem["detail"]
        for secret in (str(server.port), USER, "postgres"):
            assert secret not in answer.text.replace("urn:emend", ""), answer.text


def _recovers(api: ApiProcess) -> float:
    """Seconds until everything works again."""
    began = time.monotonic()
    wait_for(lambda: api.status() == 200, seconds=10, what="the API to be ready again")
    took = time.monotonic() - began
    with httpx.Client(base_url=api.url, timeout=60) as http:
        for ask in EVERY_KIND:
            assert ask(http, 0).status_code in (200, 201, 202), ask
    return took


def _pid(server: PostgresServer) -> int:
    assert server.process is not None
    return server.process.pid


def test_a_frozen_database_costs_nobody_more_than_five_seconds_and_loses_nothing(
    api: ApiProcess, server: PostgresServer
) -> None:
    with ExitStack() as until_thawed:

        def freeze() -> None:
            until_thawed.enter_context(frozen(_pid(server)))

        _check(_ask_at_once(api, first=1000, before=freeze), server)  # found out by these
        assert api.status() == 503
        again = _ask_at_once(api, first=2000)  # known by now
        _check(again, server)
        assert sum(each.seconds < 1.0 for each in again) > AT_ONCE / 2
    assert _recovers(api) < PROMISED_SECONDS
    # Whatever became of them: sent again, each is there once.
    with httpx.Client(base_url=api.url, timeout=60) as http:
        sent = [1000 + index for index in range(AT_ONCE) if EVERY_KIND[index % 12] is _correct]
        ids = []
        for number in sent * 2:
            answer = _correct(http, number)
            assert answer.status_code == 202
            ids += [each["id"] for each in answer.json()["corrections"]]
        assert sorted(Counter(ids).values()) == [2] * len(sent)
        promotions = http.get("/promotions").json()["promotions"]
        numbers = [each["id"] for each in promotions]
        assert numbers == list(range(numbers[0], numbers[0] - len(numbers), -1))


def test_a_stopped_database_is_told_at_once_and_classifying_goes_on(
    api: ApiProcess, server: PostgresServer
) -> None:
    server.stop()
    try:
        wait_for(lambda: api.status() == 503, seconds=PROMISED_SECONDS, what="readiness to end")
        with httpx.Client(base_url=api.url, timeout=60) as http:
            problem = problem_of(http.get("/health/ready"), 503)
            assert problem["type"].endswith("database-unavailable")
            answer = _classify(http, 1)
            assert answer.headers["x-adapter-version"] == "0"
        _check(_ask_at_once(api, first=3000), server)
    finally:
        server.start()
    assert _recovers(api) < PROMISED_SECONDS


def test_who_holds_the_writers_turn_delays_writers_only_and_not_for_long(
    api: ApiProcess, server: PostgresServer
) -> None:
    with psycopg.connect(f"{server.url}/emend") as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (TURN,))
        asked = _ask_at_once(api, first=4000)
        assert max(each.seconds for each in asked) < PROMISED_SECONDS
        for each in asked:
            if each.kind == "POST /corrections":
                problem_of(each.answer, 503)
            else:
                assert each.answer.status_code in (200, 201, 409), (each.kind, each.answer.text)
    assert _recovers(api) < PROMISED_SECONDS


def test_a_stream_of_events_outlives_a_freeze(api: ApiProcess, server: PostgresServer) -> None:
    with httpx.Client(base_url=api.url, timeout=60) as http:
        job_id = _correct(http, 5000).json()["edit_job"]["id"]
        with http.stream("GET", f"/edit-jobs/{job_id}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data:")
            with frozen(_pid(server)):
                told = next(line for line in lines if line)
                assert told == ": the database does not answer"
                again = httpx.get(f"{api.url}/edit-jobs/{job_id}/events", timeout=60)
                assert again.status_code == 503  # one that has not begun is told by its status
            assert next(line for line in lines if line.startswith("data:"))
            http.delete(f"/edit-jobs/{job_id}")
            assert any('"cancelled"' in line for line in lines)


def test_a_locked_file_is_no_longer_waited_for(service: RunningService) -> None:
    """SQLite: whoever holds the file locks writers out, and readers go on."""
    with transaction(service.services.engine) as holder:
        take_turn(holder)
        began = time.monotonic()
        answer = service.http.post(
            "/corrections", files={"image": picture(1)}, data={"label": "cat"}
        )
        assert time.monotonic() - began < PROMISED_SECONDS
        problem = problem_of(answer, 503)
        assert problem["type"].endswith("database-unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "emend.db" not in answer.text
        assert service.http.get("/corrections").json()["corrections"] == []
    assert service.correct(picture(1), "cat")["corrections"][0]["status"] == "accepted"
