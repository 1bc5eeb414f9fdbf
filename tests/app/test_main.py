"""What the application loads when it is imported."""

from __future__ import annotations

import subprocess
import sys

from tests.support.service import ROOT


def test_the_service_loads_no_training_code_and_no_celery() -> None:
    code = "import sys, app.main; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "encoder" in loaded
    assert not loaded & {"editing", "worker", "supervisor", "celery", "kombu", "benchmark"}
