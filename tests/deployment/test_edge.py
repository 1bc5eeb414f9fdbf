"""The edge's own configuration in a real nginx, in front of real replicas found by name."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from servers.nginx import why_absent
from tests.deployment.conftest import FIRST, SECOND
from tests.support.edge import NAME_SECONDS, STRANGER, TEMPLATE, Edge, running_edge, stranger
from tests.support.freezing import frozen
from tests.support.replicas import Replicas
from tests.support.servers import require_server
from tests.support.service import picture, problem_of
from tests.support.waiting import wait_for

LIMIT = 1024 * 1024
PATIENCE_SECONDS = 10
NOT_READY = b"HTTP/1.1 503 x\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot ready"


@pytest.fixture(scope="module")
def edge(replicas: Replicas) -> Iterator[Edge]:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_NGINX")
    with running_edge(replicas.port, LIMIT, FIRST, SECOND) as running:
        yield running


@pytest.fixture(autouse=True)
def _both_replicas(edge: Edge) -> Iterator[None]:
    yield
    if edge.names.names != {"api": (FIRST, SECOND)}:
        edge.behind(FIRST, SECOND)


def _classify(http: httpx.Client, seed: int = 1) -> httpx.Response:
    return http.post("/classify", files={"image": picture(seed)}, data={"label": ["a", "b"]})


def _requests_heard(heard: list[bytes], method: str) -> int:
    return sum(one.startswith(method.encode()) for one in heard)


def test_requests_are_spread_over_the_replicas(edge: Edge) -> None:
    answers = [edge.http.get("/adapters/live") for _ in range(40)]
    answered = Counter(edge.asked(answer)[-1] for answer in answers)
    assert set(answered) == {FIRST, SECOND}
    assert min(answered.values()) >= 5
    assert _classify(edge.http).headers["x-adapter-version"] == "0"


def test_it_runs_as_a_user_that_may_do_nothing(edge: Edge) -> None:
    master = psutil.Process(edge.nginx.process.pid)
    if os.geteuid() == 0:
        assert {one.uids().real for one in (master, *master.children())} & {0} == set()
    for path in ("/metrics", "/adapters/live"):
        assert edge.http.get(path).headers["server"] == "nginx"  # and no version


def test_a_killed_replica_costs_no_request(edge: Edge, replicas: Replicas) -> None:
    third = "127.0.0.4"
    replicas.start(third)
    replicas.wait_until_ready(third)
    edge.behind(FIRST, third)
    ended = threading.Event()

    def ask(worker: int) -> list[int]:
        found = []
        with httpx.Client(base_url=edge.nginx.url, timeout=30) as http:
            while not ended.is_set():
                found.append(http.get("/adapters/live").status_code)
                found.append(_classify(http, worker).status_code)
        return found

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, worker) for worker in range(4)]
        replicas.kill(third)  # while it answers; its name stays
        begun = len(edge.nginx.log.read_text().splitlines())
        wait_for(
            lambda: len(edge.nginx.log.read_text().splitlines()) > begun + 100,
            seconds=60,
            what="a hundred more requests",
        )
        ended.set()
        statuses = [status for one in asking for status in one.result()]
    assert set(statuses) == {200}
    # What was never sent may be sent elsewhere, whatever it is.
    asked = []
    for number in range(10):
        answer = edge.http.post(
            "/corrections", files={"image": picture(1000 + number)}, data={"label": "a"}
        )
        assert answer.status_code == 202, answer.text
        asked.append(edge.asked(answer))
    assert [third, FIRST] in asked


def test_a_frozen_replica_holds_nobody_up_for_long(edge: Edge, replicas: Replicas) -> None:
    with frozen(replicas.process_id(SECOND)):
        asked = []
        while SECOND not in asked:
            answer = edge.http.get("/adapters/live")
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < PATIENCE_SECONDS
            asked = edge.asked(answer)
    assert asked == [SECOND, FIRST]


@pytest.mark.parametrize(
    ("method", "path", "repeated"),
    [
        ("GET", "/adapters/live", True),
        ("PUT", "/label-sets/repeated", True),
        ("POST", "/promotions", False),
        ("POST", "/edit-jobs", False),
        ("POST", "/corrections", False),
    ],
)
def test_what_may_have_been_done_is_repeated_only_where_that_is_the_same(
    edge: Edge, replicas: Replicas, method: str, path: str, repeated: bool
) -> None:
    body = {"labels": ["a", "b"], "templates": []} if method == "PUT" else {"version": 0}
    with stranger(replicas.port) as heard:
        edge.behind(STRANGER, FIRST)
        before = len(heard)
        statuses = []
        while len(heard) == before:
            answer = edge.http.request(method, path, json=None if method == "GET" else body)
            statuses.append(answer.status_code)
    if repeated:
        assert set(statuses) == {200}
    else:
        problem = problem_of(answer, 502)
        assert "may have been done" in problem["detail"]
        assert int(answer.headers["retry-after"]) > 0
        assert edge.asked(answer) == [STRANGER]


def test_a_replica_that_is_not_ready_is_passed_over_when_a_question_is_asked(
    edge: Edge, replicas: Replicas
) -> None:
    with stranger(replicas.port, NOT_READY) as heard:
        edge.behind(STRANGER, FIRST)
        for _ in range(20):
            assert _classify(edge.http).status_code == 200
        assert _requests_heard(heard, "POST /classify") > 0
        edge.behind(STRANGER)
        wait_for(  # its own words, when there is no other; nginx keeps names for a moment
            lambda: _classify(edge.http).text == "not ready", seconds=20, what="the stranger"
        )


QUESTIONS = ("/vqa", "/v1/chat/completions")


def _ask(http: httpx.Client, path: str) -> httpx.Response:
    """A question that needs no model to be refused, by whoever is asked."""
    return http.post(path, files={"image": picture(1)}, data={"question": "What is this?"})


@pytest.mark.parametrize("path", QUESTIONS)
def test_questions_are_asked_where_they_are_answered(
    edge: Edge, replicas: Replicas, path: str
) -> None:
    answer = b"HTTP/1.1 200 x\r\nContent-Length: 8\r\nConnection: close\r\n\r\nanswered"
    with stranger(replicas.port, answer) as heard:
        edge.names.names = {"api": (FIRST, SECOND), "vlm": (STRANGER,)}
        wait_for(
            lambda: _ask(edge.http, path).text == "answered", seconds=NAME_SECONDS, what="the VLM"
        )
        assert edge.asked(_ask(edge.http, path)) == [STRANGER]
        assert _classify(edge.http).status_code == 200
        assert _requests_heard(heard, "POST /classify") == 0


@pytest.mark.parametrize("path", QUESTIONS)
@pytest.mark.parametrize("lost", [True, False])
def test_the_api_is_asked_where_nobody_is_there_for_questions(
    edge: Edge, replicas: Replicas, path: str, lost: bool
) -> None:
    with stranger(replicas.port):  # hangs up in the middle
        edge.names.names = {"api": (FIRST, SECOND)} | ({"vlm": (STRANGER,)} if lost else {})
        answer = wait_for(
            lambda: _answer_of_the_api(edge, path, lost), seconds=NAME_SECONDS, what="the api"
        )
    assert answer.status_code == 503
    told = answer.json()
    code = told["type"] if path == "/vqa" else told["error"]["code"]
    assert code in ("urn:emend:problem:vlm-absent", "vlm_absent")


def _answer_of_the_api(edge: Edge, path: str, lost: bool) -> httpx.Response | None:
    answer = _ask(edge.http, path)
    asked = edge.asked(answer)
    return answer if (STRANGER in asked) == lost and {FIRST, SECOND} & set(asked) else None


def test_without_any_replica_openais_clients_read_an_error_of_theirs(edge: Edge) -> None:
    edge.names.names = {}
    answer = wait_for(lambda: _refused_by_the_edge(edge), seconds=NAME_SECONDS, what="a refusal")
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "no-replica")
    assert int(answer.headers["retry-after"]) > 0


def _refused_by_the_edge(edge: Edge) -> httpx.Response | None:
    answer = edge.http.get("/v1/models")
    return answer if answer.status_code == 502 else None


def test_events_arrive_when_they_happen(edge: Edge) -> None:
    sent = edge.http.post("/corrections", files={"image": picture(77)}, data={"label": "a"})
    job = sent.json()["edit_job"]["id"]
    with edge.http.stream("GET", f"/edit-jobs/{job}/events", timeout=5) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["status"] == "queued"
        assert edge.http.delete(f"/edit-jobs/{job}").status_code == 202
        events = [line for line in lines if line.startswith("data: ")]
    assert json.loads(events[-1].removeprefix("data: "))["status"] == "cancelled"


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ["/classify", "/corrections", "/label-sets/x"])
def test_a_body_over_the_limit_is_refused(edge: Edge, path: str, announced: bool) -> None:
    body = b"x" * (LIMIT + LIMIT // 2)
    content = body if announced else iter([body[:LIMIT], body[LIMIT:]])
    method = "PUT" if "label-sets" in path else "POST"
    headers = {"content-type": "application/json"}
    answer = edge.http.request(method, path, content=content, headers=headers)
    problem = problem_of(answer, 413)
    assert problem["type"] == "urn:emend:problem:body-too-large"
    assert str(LIMIT) in problem["detail"]


def test_a_body_within_the_limit_arrives_whole(edge: Edge) -> None:
    labels = [f"label {number:06}" for number in range(1000)]
    answer = edge.http.put("/label-sets/long", json={"labels": labels, "templates": ["a {}"] * 9})
    assert answer.json()["labels"] == labels, answer.text


def test_without_any_replica_it_says_so_and_when_to_come_back(edge: Edge) -> None:
    for addresses in (("127.0.0.5", "127.0.0.6"), ()):  # nobody there; not even a name
        edge.names.names = {"api": addresses} if addresses else {}
        for method, path in (("GET", "/adapters"), ("POST", "/corrections")):
            answer = wait_for(
                lambda method=method, path=path: _refused(edge.http.request(method, path)),
                seconds=NAME_SECONDS,
                what="a refusal",
            )
            problem = problem_of(answer, 502)
            assert problem["type"] == "urn:emend:problem:no-replica"
            assert int(answer.headers["retry-after"]) > 0
    assert edge.http.get("/edge/live").json() == {"status": "alive"}


def _refused(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code >= 500 else None


def test_a_replaced_replica_is_found_without_a_reload(edge: Edge, replicas: Replicas) -> None:
    fifth = "127.0.0.7"
    master = psutil.Process(edge.nginx.process.pid)
    workers = [child.pid for child in master.children()]
    replicas.start(fifth)
    replicas.wait_until_ready(fifth)
    edge.behind(fifth)
    answer = edge.http.get("/health/ready")
    assert (answer.status_code, edge.asked(answer)) == (200, [fifth])
    assert [child.pid for child in master.children()] == workers
    edge.behind(FIRST, SECOND)
    replicas.kill(fifth)


@pytest.mark.parametrize(
    "path", ["/metrics", "//metrics", "/%6detrics", "/x/../metrics", "/metrics?a"]
)
def test_metrics_stay_inside(edge: Edge, path: str) -> None:
    request = edge.http.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = edge.http.send(request)
    assert problem_of(answer, 404)["type"] == "urn:emend:problem:not-found"
    assert edge.asked(answer) == []


@pytest.mark.parametrize("given", ["order-17", "", 'x" y', "a" * 65])
def test_a_request_has_one_id_everywhere(edge: Edge, given: str) -> None:
    for path in ("/adapters/live", "/metrics"):
        own = given and given + path.replace("/", "-")
        answer = edge.http.get(path, headers={"X-Request-ID": own} if own else {})
        assert (answer.headers["x-request-id"] == own) == (given == "order-17")
        assert bool(edge.asked(answer)) == (path != "/metrics")


def test_the_replicas_own_answers_pass_unchanged(edge: Edge) -> None:
    problem = problem_of(edge.http.get("/edit-jobs/none"), 404)
    assert problem["type"] == "urn:emend:problem:edit-job-unknown"
    assert edge.http.get("/docs").headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /% HTTP/1.1", 400),
        (f"GET /{'a' * 9000} HTTP/1.1", 414),
        ("GET /grafana/ HTTP/1.1", 502),
    ],
)
def test_what_the_edge_refuses_itself_is_a_problem_document(
    edge: Edge, request_line: str, status: int
) -> None:
    url = httpx.URL(edge.nginx.url)
    with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
        connection.sendall(f"{request_line}\r\nHost: edge\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == status


def test_the_template_is_filled_in_by_emends_variables_alone() -> None:
    text = TEMPLATE.read_text()
    assert text.count("${") == text.count("${EMEND_")
