"""The service with real child processes that stand in for the API and the worker."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from servers.ports import free_port
from supervisor.child import Child
from supervisor.errors import DiesAtOnce, MigrationFailed
from supervisor.events import Event, Events, StopRequested
from supervisor.restarts import RestartPolicy
from supervisor.service import Service
from tests.support.waiting import wait_for

PROCESS = "tests.support.supervised_process"
POLICY = RestartPolicy(first_delay=0.05, longest_delay=0.1, deaths_at_once=3)


class Bench:
    """A service in a thread, its printed lines, and the pids its children wrote down."""

    def __init__(self, folder: Path) -> None:
        self.events: Events = SimpleQueue[Event]()
        self.lines: list[str] = []
        self.folder = folder
        self.port = free_port()
        self.failure: Exception | None = None
        self._thread: threading.Thread | None = None

    def child(self, name: str, *behaviour: str) -> Child:
        command = [PROCESS, *behaviour]
        return Child(name, command, events=self.events, write=self.lines.append)

    def service(self, *children: Child) -> Service:
        return Service(
            children,
            events=self.events,
            url=f"http://127.0.0.1:{self.port}",
            write=self.lines.append,
            policy=POLICY,
        )

    def run(self, service: Service) -> None:
        def body() -> None:
            try:
                service.run()
            except DiesAtOnce as error:
                self.failure = error

        self._thread = threading.Thread(target=body)
        self._thread.start()

    def pids(self, file: str) -> list[int]:
        path = self.folder / file
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def wait_for_pids(self, file: str, count: int) -> list[int]:
        return wait_for(
            lambda: pids if len(pids := self.pids(file)) >= count else [],
            seconds=20,
            what=f"{count} starts of {file}",
        )

    def stop(self) -> None:
        self.events.put(StopRequested(signal.SIGTERM))
        self.join()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(timeout=20)
            assert not self._thread.is_alive()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.stop()


def file(bench: Bench, name: str) -> str:
    return str(bench.folder / name)


def test_says_where_it_answers_once_the_check_passes(bench: Bench) -> None:
    app = bench.child("app", "serve", str(bench.port), file(bench, "app"))
    bench.run(bench.service(app))
    ready = f"Emend is ready at http://127.0.0.1:{bench.port}"
    wait_for(lambda: any(ready in line for line in bench.lines), seconds=20, what="ready")
    bench.stop()
    assert not psutil.pid_exists(bench.pids("app")[0])


def test_a_killed_process_is_started_again(bench: Bench) -> None:
    bench.run(bench.service(bench.child("worker", "wait", file(bench, "worker"))))
    (first,) = bench.wait_for_pids("worker", 1)
    os.kill(first, signal.SIGKILL)
    second = bench.wait_for_pids("worker", 2)[1]
    assert second != first
    assert any("worker ended with code -9" in line for line in bench.lines)
    bench.stop()
    assert "worker | stopped cleanly" in bench.lines
    assert not psutil.pid_exists(second)


def test_gives_up_with_a_sentence_and_stops_the_other(bench: Bench) -> None:
    worker = bench.child("worker", "wait", file(bench, "worker"))
    bench.run(bench.service(bench.child("app", "exit", "1"), worker))
    bench.join()
    assert isinstance(bench.failure, DiesAtOnce)
    assert bench.failure.name == "app"
    assert bench.lines.count("app    | the port 8000 is in use") == 3
    assert not worker.running


def test_a_process_that_does_not_stop_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.service.STOP_WITHIN_SECONDS", 0.3)
    bench.run(bench.service(bench.child("worker", "stubborn", file(bench, "worker"))))
    (pid,) = bench.wait_for_pids("worker", 1)
    bench.stop()
    assert not psutil.pid_exists(pid)
    assert any("did not stop" in line for line in bench.lines)


def test_a_failed_migration_is_said_and_nothing_starts(bench: Bench) -> None:
    worker = bench.child("worker", "wait", file(bench, "worker"))
    with pytest.raises(MigrationFailed, match="code 3"):
        bench.service(worker).prepare(bench.child("app", "exit", "3"))
    assert worker.pid is None
    assert bench.lines == ["app    | the port 8000 is in use"]
