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

from client import EmendClient
from registry.edit_jobs import get_job
from registry.session import default_url, open_database, reading
from registry.tables import EditJob
from servers.ports import free_port
from tests.support.running_worker import COLOURS, QUICK, picture
from tests.support.tiny_encoder import tiny_folder
from tests.support.waiting import wait_for

LONG = {**QUICK, "min_steps": 800, "max_steps": 800, "stop_margin": 100, "rounds": 1}
"""A config that trains for seconds, however soon everything is right."""


class WholeService:
    """In a session of its own, as from a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        self.data = folder / "data"
        self._settings = {
            "EMEND_ENCODER": str(tiny_folder(folder / "encoder")),
            "EMEND_DATA": str(self.data),
            "EMEND_PORT": str(self.port),
            "EMEND_THREADS": "1",
            # Jobs start by request only, and no control set can refuse them.
            "EMEND_EDIT_BATCH": "1000",
            "EMEND_EDIT_WAIT": "1000",
            "EMEND_FLIP_BUDGET": "100",
        }
        self._seen: dict[int, psutil.Process] = {}
        self.start()

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "supervisor"],
                env={**os.environ, **self._settings},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def press_ctrl_c(self) -> None:
        """SIGINT to the whole process group that the terminal would reach."""
        group = os.getpgid(self.process.pid)
        assert group == self.process.pid != os.getpgid(0)
        os.killpg(group, signal.SIGINT)

    def job(self, job_id: str) -> EditJob:
        """The row as it stands, also while nothing runs."""
        engine = open_database(default_url(self.data))
        try:
            with reading(engine) as session:
                return get_job(session, job_id)
        finally:
            engine.dispose()

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
    service.press_ctrl_c()
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


def test_ctrl_c_in_mid_training_gives_the_job_back_and_it_is_finished_once(
    service: WholeService,
) -> None:
    service.wait_for_line(f"Emend is ready at {service.url}")
    service.wait_for_line("INFO worker: ")
    with EmendClient(service.url) as client:
        client.put_label_set("colours", [*COLOURS])
        client.correct([picture(each, 1) for each in COLOURS], [*COLOURS], label_set="colours")
        request = {"method": "lorsu", "config": LONG}
        job_id = client.request("POST", "/edit-jobs", json=request).json()["id"]
        wait_for(
            lambda: service.job(job_id).progress["phase"] == "training",
            seconds=30,
            what="the training to begin",
        )
    service.press_ctrl_c()
    assert service.process.wait(timeout=20) == 0
    assert service.text().endswith("Emend has stopped.\n")
    stopped = service.job(job_id)
    assert (stopped.status, stopped.attempt, stopped.lost) == ("queued", 1, 0)

    service.start()
    service.wait_for_line(f"Emend is ready at {service.url}")
    with EmendClient(service.url) as client:
        assert client.wait_job(job_id)["adapter"] == 1
        promotions = client.get("/promotions")["promotions"]
    assert sorted(each["version"] for each in promotions) == [0, 1]
    ended = service.job(job_id)
    assert (ended.status, ended.attempt, ended.lost) == ("succeeded", 2, 0)
