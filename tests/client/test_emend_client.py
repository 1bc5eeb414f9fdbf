"""The client against a real HTTP server on loopback that answers like the contract."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest

from client import EmendClient, EmendError, JobEnded, emend_client


class Answers(BaseHTTPRequestHandler):
    """A few paths of the contract, answered from a script."""

    script: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if self.path == "/edit-jobs/1/events":
            states = [{"id": "1", "status": s, "adapter": None} for s in ("queued", "rejected")]
            body = "".join(f"data: {json.dumps(state)}\n\n" for state in states)
            self._send(200, body.encode(), "text/event-stream")
        elif self.path == "/edit-jobs/2/events":
            body = f"data: {json.dumps({'id': '2', 'status': 'running'})}\n\n"
            self._send(200, body.encode(), "text/event-stream", missing=1)
        elif self.path == "/edit-jobs/2":
            self._answer_from(self.script)
        elif self.path == "/health/ready":
            self._send(200, b"{}", "application/json")
        else:
            problem = {"title": "No such adapter", "status": 404, "detail": "version 9"}
            self._send(404, json.dumps(problem).encode(), "application/problem+json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        count = body.count(b'name="image"')
        predictions = [{"id": str(i), "labels": [{"label": "a"}]} for i in range(count)]
        self._send(200, json.dumps({"predictions": predictions}).encode(), "application/json")

    def _answer_from(self, script: list[int]) -> None:
        """The next status of the script; 0 ends the connection without an answer."""
        status = script.pop(0)
        state = {"id": "2", "status": "succeeded", "adapter": 1}
        if status:
            self._send(status, json.dumps(state).encode(), "application/json")
        self.close_connection = True

    def _send(self, status: int, body: bytes, media_type: str, *, missing: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def service() -> Iterator[EmendClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with EmendClient(f"http://127.0.0.1:{server.server_port}") as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


def test_many_images_are_cut_into_requests_and_come_back_in_order(service: EmendClient) -> None:
    predictions = service.classify([b"x"] * 130, label_set="signs")
    assert [p["id"] for p in predictions] == [str(i) for n in (64, 64, 2) for i in range(n)]


def test_a_problem_becomes_an_error_with_its_facts(service: EmendClient) -> None:
    with pytest.raises(EmendError, match="404 No such adapter: version 9") as caught:
        service.adapter(9)
    assert caught.value.problem["status"] == 404


def test_a_job_that_did_not_succeed_is_an_error_after_its_progress(service: EmendClient) -> None:
    seen: list[str] = []
    with pytest.raises(JobEnded, match="rejected"):
        service.wait_job("1", progress=lambda job: seen.append(job["status"]))
    assert seen == ["queued", "rejected"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emend_client, "ASK_EVERY", 0.001)


@pytest.mark.usefixtures("impatient")
def test_a_job_is_followed_through_a_restart(service: EmendClient) -> None:
    seen: list[str] = []
    Answers.script[:] = [0, 503, 0, 200]
    ended = service.wait_job("2", progress=lambda job: seen.append(job["status"]))
    assert ended["adapter"] == 1
    assert seen == ["running", "succeeded"]
    assert Answers.script == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("script", "error"), [([0, 0, 0], httpx.TransportError), ([503] * 3, EmendError)]
)
def test_a_service_that_stays_away_is_an_error(
    service: EmendClient,
    monkeypatch: pytest.MonkeyPatch,
    script: list[int],
    error: type[Exception],
) -> None:
    monkeypatch.setattr(emend_client, "SILENCE_SECONDS", 0.0)
    Answers.script[:] = script
    with pytest.raises(error):
        service.wait_job("2")
    assert len(Answers.script) == 2


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_will_not_change_is_not_asked_for_again(service: EmendClient) -> None:
    Answers.script[:] = [404, 200]
    with pytest.raises(EmendError, match="404"):
        service.wait_job("2")
    assert Answers.script == [200]


def test_waiting_for_a_service_that_ended_stops_at_once() -> None:
    with (
        EmendClient("http://127.0.0.1:9") as nobody,
        pytest.raises(TimeoutError, match="not ready"),
    ):
        nobody.wait_ready(seconds=60, alive=lambda: False)


def test_a_ready_service_is_ready(service: EmendClient) -> None:
    service.wait_ready(seconds=5)
    assert service.http.get("/health/ready").status_code == 200
