"""The script that asks Compose about docker-compose.yml: every profile, or one line without it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "validate.sh"
STUB = """#!/bin/sh
echo "$@" >>"$0.log"
case "$*" in
  *--profiles) printf 'edge\\ngpu\\n' ;;
  "$REFUSED") exit 15 ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with nothing on it but what the script needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    found = shutil.which("dirname")
    assert found is not None
    (folder / "dirname").symlink_to(found)
    return folder


def _validate(programs: Path, refused: str = "nothing") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(programs), "REFUSED": refused}
    command = ["/bin/sh", str(SCRIPT)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_compose_it_says_what_it_left_out(programs: Path) -> None:
    done = _validate(programs)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert "left out" in done.stdout


def test_every_profile_is_read_and_one_that_is_wrong_fails(programs: Path) -> None:
    stub = programs / "docker"
    stub.write_text(STUB)
    stub.chmod(0o755)
    assert _validate(programs).returncode == 0
    asked = (programs / "docker.log").read_text().splitlines()
    assert "compose config --quiet" in asked
    for profile in ("edge", "gpu", "*"):
        assert f"compose --profile {profile} config --quiet" in asked
    assert _validate(programs, refused="compose --profile gpu config --quiet").returncode == 15
