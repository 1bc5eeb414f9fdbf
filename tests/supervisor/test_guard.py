"""A guarded process ends with the process that holds its pipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_for

PROCESS = "tests.support.supervised_process"


def test_ends_by_itself_when_the_pipe_closes(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    command = [sys.executable, "-m", "supervisor.guard", PROCESS, "wait", str(record)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_for(record.exists, seconds=20, what="the guarded process")
        assert process.poll() is None
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output == b"stopped cleanly\n"


def test_ends_by_force_when_it_ignores_the_request(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    program = (
        "import supervisor.guard as guard; guard.STOP_SECONDS = 0.2;"
        f"guard.main(['{PROCESS}', 'stubborn', {str(record)!r}])"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        wait_for(record.exists, seconds=20, what="the guarded process")
        process.communicate(timeout=20)
    assert process.returncode == -9
