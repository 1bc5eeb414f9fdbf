"""The README's calls, run as pasted against a real service."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client import local_service

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "<!-- the calls below are run as they stand"


def _pasted() -> str:
    """The shell's blocks, in order."""
    marked = (ROOT / "README.md").read_text().split(MARK)[1:]
    blocks = [re.search(r"```sh\n(.*?)```", part, re.DOTALL) for part in marked]
    assert None not in blocks
    return "".join(block.group(1) for block in blocks if block is not None)


def _python() -> str:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    return block.group(1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_calls_work_as_pasted(tmp_path: Path) -> None:
    with local_service(tmp_path / "data", {"EMEND_EDIT_WAIT": "0"}) as service:
        here = str(service.http.base_url).rstrip("/")
        script = _pasted().replace("http://127.0.0.1:8000", here)
        assert script.count(here) == _pasted().count("curl ") > 8
        script = script.replace(".venv/bin/python", sys.executable)
        _run(["bash", "-euo", "pipefail", "-c", script], tmp_path)
        jobs = service.get("/edit-jobs")["edit_jobs"]
        assert len(jobs) == 1
        assert jobs[0]["status"] in {"queued", "running", "succeeded", "rejected"}
        asked = _python().replace("http://127.0.0.1:8000", here)
        assert asked != _python()
        said = _run([sys.executable, "-c", asked], tmp_path)
        assert said == service.ask((tmp_path / "photo.jpg").read_bytes(), "What is this?")["answer"]


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
