"""`python -m supervisor` with the real API, the real worker and a tiny encoder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.tiny_encoder import tiny_folder
from tests.support.waiting import wait_for


class WholeService:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        settings = {
            "EMEND_ENCODER": str(tiny_folder(folder / "encoder")),
            "EMEND_DATA": str(folder / "data"),
            "EMEND_PORT": str(self.port),
            "EMEND_THREADS": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "supervisor"],
                env={**os.environ, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._seen: dict[int, psutil.Process] = {}

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_line(self, part: str, *, times: int = 1) -> None:
        try:
            wait_for(lambda: self.text().count(part) >= times, seconds=120, what=part)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.text()}") from None

    def children(self) -> dict[str, psutil.Process]:
        """Running children by the module they run."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            line = child.cmdline()
            if "supervisor.guard" in line:
                found[" ".join(line[line.index("supervisor.guard") + 1 :])] = child
                self._seen[child.pid] = child
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.children()
            self.process.kill()
        self.process.wait(timeout=20)
        psutil.wait_procs(list(self._seen.values()), timeout=20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[WholeService]:
    service = WholeService(tmp_path)
    yield service
    service.close()


def test_starts_restarts_a_killed_worker_and_stops_on_ctrl_c(service: WholeService) -> None:
    service.wait_for_line(f"Emend is ready at {service.url}")
    with urllib.request.urlopen(f"{service.url}/health/live", timeout=10) as answer:
        assert answer.status == 200
    service.wait_for_line("INFO worker: ")
    first = service.children()
    assert set(first) == {"app", "worker"}
    first["worker"].kill()
    service.wait_for_line("worker ended with code -9")
    service.wait_for_line("INFO worker: ", times=2)
    second = service.children()
    assert second["worker"].pid != first["worker"].pid
    assert second["app"].pid == first["app"].pid
    asked = time.monotonic()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(timeout=20) == 0
    assert time.monotonic() - asked < 10
    assert service.text().endswith("Emend has stopped.\n")
    assert not any(child.is_running() for child in second.values())


def test_the_children_end_with_a_killed_supervisor(service: WholeService) -> None:
    service.wait_for_line(f"Emend is ready at {service.url}")
    children = list(service.children().values())
    assert len(children) == 2
    service.process.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
