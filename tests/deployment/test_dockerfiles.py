"""The Dockerfiles: linted, sharing what is heavy, and holding enough and nothing that trains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
API, WORKER = ROOT / "docker" / "api.Dockerfile", ROOT / "docker" / "worker.Dockerfile"
BOTH = pytest.mark.parametrize("file", [API, WORKER], ids=lambda file: file.stem)
SHARED = re.compile(r"^FROM python:3\.11-slim AS layers\n.*?(?=^FROM dependencies)", re.M | re.S)
NOT_FOR_API = {"editing", "worker", "benchmark", "recipes", "demo", "client", "supervisor", "tests"}
ALONE = """
import importlib.util, runpy, sys
# An editable installation is a finder that knows the way to this checkout.
sys.meta_path[:] = [each for each in sys.meta_path if "editable" not in repr(each)]
assert importlib.util.find_spec("demo") is None
"""
RUN = "sys.argv[1:] = {1!r}; runpy.run_module({0!r}, run_name='__main__', alter_sys=True)"
STARTS = {
    API: (RUN.format("app", ["migrate"]), RUN.format("registry", ["--help"]), "import app.main"),
    WORKER: ("import worker.__main__, worker.photographs",),
}


def _copied(file: Path) -> list[tuple[str, str]]:
    """What comes from the checkout into the image's working folder: (from, to)."""
    code = file.read_text().split("AS code\n")[1].split("\nFROM")[0]
    return re.findall(r"^COPY (\S+) (\S+)$", code, re.M)


def _health_check(file: Path) -> list[str]:
    command = re.search(r"^HEALTHCHECK .*?CMD \[(.*)\]$", file.read_text(), re.M | re.S)
    assert command is not None
    return re.findall(r'"((?:[^"\\]|\\.)*)"', command[1])


@BOTH
def test_the_linter_finds_nothing(file: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@BOTH
def test_it_builds_without_a_front_end_from_the_network(file: Path) -> None:
    text = file.read_text()
    assert not re.search(r"^#\s*syntax\s*=", text, re.M)
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) <= {
        *("python:3.11-slim", "dependencies", "installed"),
    }
    assert "://" not in text.replace("http://127.0.0.1:8000/", "")


def test_both_share_every_heavy_step_word_for_word() -> None:
    of_api, of_worker = (SHARED.search(file.read_text()) for file in (API, WORKER))
    assert of_api is not None
    assert of_worker is not None
    assert of_api[0] == of_worker[0]
    assert "torch.txt" in of_api[0]


@BOTH
def test_code_comes_after_every_installation(file: Path) -> None:
    instructions = re.findall(r"^(COPY|RUN|FROM) (.*)", file.read_text(), re.M)
    installs = [n for n, (_, rest) in enumerate(instructions) if "pip install" in rest]
    rooms = {name for name, _ in _copied(file)}
    copies = [n for n, (_, rest) in enumerate(instructions) if rest.split()[0] in rooms]
    assert max(installs) < min(copies)


@BOTH
def test_it_runs_as_a_user_with_a_fixed_number(file: Path) -> None:
    last_stage = file.read_text().split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last_stage, re.M)


def test_the_api_holds_no_training_code() -> None:
    assert not {name.split("/")[0] for name, _ in _copied(API)} & NOT_FOR_API
    assert "worker.txt" not in API.read_text()


@BOTH
def test_what_it_copies_is_enough(file: Path, tmp_path: Path) -> None:
    """Started in a folder that holds just that, with this checkout out of sight."""
    image = tmp_path / "image"
    image.mkdir()
    for source, target in _copied(file):
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
        copy(ROOT / source, image / target)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EMEND_")}
    environment = {**kept, "EMEND_DATA": str(tmp_path / "data"), "PYTHONPATH": ""}
    for statement in STARTS[file]:
        done = subprocess.run(
            [sys.executable, "-c", f"{ALONE}{statement}"],
            cwd=image,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@BOTH
def test_no_command_copies_the_checkout_whole(file: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored
    kept = {line[1:].split("/")[0] for line in ignored if line.startswith("!")}
    wanted = {name.split("/")[0] for name, _ in _copied(file)} | {"pyproject.toml", "docker"}
    assert wanted <= kept
    assert not kept & {"tests", "benchmark", "demo", "client", "recipes", ".git", ".venv"}


def test_a_worker_is_healthy_while_its_sweep_goes_round(tmp_path: Path) -> None:
    _, *arguments = _health_check(WORKER)
    mark = tmp_path / "swept"

    def status() -> int:
        environment = {"EMEND_DATA": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, check=False
        )
        return done.returncode

    assert status() != 0
    mark.touch()
    assert status() == 0
    os.utime(mark, (time.time() - 61,) * 2)
    assert status() != 0
