"""A storm ends when its time is over, whatever it waits for, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import psutil
import pytest

from chaos.limit import CalledOff, called_off_after
from servers import postgres, redis
from servers.waiting import wait_until
from tests.support.servers import require_server
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
SOON = 0.2


def wait_in_vain(seconds: float) -> None:
    with called_off_after(seconds):
        try:
            wait_until(lambda: False, seconds=30, what="nothing")
        except TimeoutError:
            pytest.fail("it was taken for a wait that was in vain")


def ask_in_vain(url: str, seconds: float) -> None:
    with called_off_after(seconds):
        try:
            httpx.get(url, timeout=30, trust_env=False)
        except httpx.TransportError:
            pytest.fail("it was taken for a request without an answer")


def stop_twice(tidied: list[str]) -> None:
    with called_off_after(30):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            wait_until(lambda: False, seconds=30, what="nothing")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            tidied.append("all")


def test_waiting_with_a_deadline_of_its_own_does_not_swallow_the_end() -> None:
    with pytest.raises(CalledOff, match=r"not over in 0\.2 s"):
        wait_in_vain(SOON)


def test_a_request_that_hangs_does_not_swallow_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(CalledOff):
        ask_in_vain(f"http://127.0.0.1:{silent.getsockname()[1]}", SOON)


def test_sigterm_ends_it_too_and_tidying_up_is_not_cut_short_by_another() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    tidied: list[str] = []
    with pytest.raises(CalledOff, match="stopped"):
        stop_twice(tidied)
    assert tidied == ["all"]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_what_is_over_is_not_called_off_any_more() -> None:
    with called_off_after(SOON) as over:
        over()
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: signal.getitimer(signal.ITIMER_REAL)[0] == 0, seconds=10, what="the alarm")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seconds", [0.3, 6.0])
def test_the_command_says_so_and_leaves_neither_process_nor_folder(seconds: float) -> None:
    require_server(postgres.why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    require_server(redis.why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)  # PostgreSQL runs as another user
        command = [sys.executable, "-m", "chaos", "--seed", "1", "--limit", str(seconds)]
        done = subprocess.run(
            [*command, "--json", f"{place}/report.json"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": place},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1:] == [
            f"The storm has no end: it was not over in {seconds:g} s"
        ]
        assert list(Path(place).glob("emend-*")) == []
        left = [
            one for one in psutil.process_iter(["cmdline", "environ"]) if place in str(one.info)
        ]
        assert left == []
