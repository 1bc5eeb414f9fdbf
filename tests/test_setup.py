"""`setup.sh`, without a network: it says what is missing, and leaves alone what is set up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PINS = "cat pyproject.toml constraints.txt setup.sh | cksum | tr ' ' '-'"
PROJECT = """[project]
name = "tiny"
version = "1"
[project.optional-dependencies]
all = []
"""


def _set_up(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run it there; `folder` is a project of its own, so that nothing of this one is touched, nor
    the environment that make told these tests to run in."""
    outside = {name: value for name, value in os.environ.items() if name not in ("VENV", "PYTHON")}
    return subprocess.run(
        ["sh", "./setup.sh"],
        cwd=folder,
        env={**outside, "PIP_NO_INDEX": "1", **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _stamp(folder: Path, *, pins: str | None = None) -> None:
    """Mark .venv as set up with these pins, by default the right ones."""
    now = subprocess.run(
        ["sh", "-c", PINS], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".emend-setup").write_text(f"{pins or now} {folder}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a project of no dependencies and the real script."""
    shutil.copy(ROOT / "setup.sh", tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "constraints.txt").touch()
    return tmp_path


def test_a_missing_python_is_named_with_the_way_to_get_it(project: Path) -> None:
    done = _set_up(project, PYTHON="/nonexistent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "'/nonexistent' was not found. Install Python 3.11" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (project / ".venv").exists()


def test_an_environment_that_is_set_up_is_left_alone(project: Path) -> None:
    _stamp(project)
    done = _set_up(project, PYTHON="/nonexistent")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [file.name for file in (project / ".venv").iterdir()] == [".emend-setup"]


def test_other_pins_ask_for_another_set_up(project: Path) -> None:
    _stamp(project, pins="1-2")
    assert _set_up(project, PYTHON="/nonexistent").returncode == 1


def test_packages_that_cannot_be_had_end_it_with_pips_own_words(project: Path) -> None:
    done = _set_up(project, PYTHON=sys.executable)
    assert done.returncode == 1
    assert done.stdout.startswith("Creating .venv ...\n")
    assert "ERROR: " in done.stdout
    assert len(done.stdout.splitlines()) < 12
    assert "Check the network and free disk space" in done.stderr
    assert "ERROR: " in (project / ".venv" / "pip.log").read_text()
    assert not (project / ".venv" / ".emend-setup").exists()
