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
    after = (ROOT / "README.md").read_text().split(MARK, 1)[1]
    block = re.search(r"```sh\n(.*?)```", after, re.DOTALL)
    assert block is not None
    return block.group(1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_lines_work_as_pasted(tmp_path: Path) -> None:
    with local_service(tmp_path / "data", {"EMEND_EDIT_WAIT": "0"}) as service:
        here = str(service.http.base_url).rstrip("/")
        script = _pasted().replace("http://127.0.0.1:8000", here)
        assert script.count(here) == _pasted().count("curl ")
        script = script.replace(".venv/bin/python", sys.executable)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        jobs = service.get("/edit-jobs")["edit_jobs"]
        assert len(jobs) == 1
        assert jobs[0]["status"] in {"queued", "running", "succeeded", "rejected"}
