"""The runbook's other commands on a real engine: new passwords, and the next release."""

from __future__ import annotations

from pathlib import Path

import pytest

from client import EmendClient
from tests.support.operations import commands, run_commands
from tests.support.service import picture
from tests.support.stack import ROOT, Stack, docker

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def _run(stack: Stack, folder: Path, text: str) -> None:
    settings = {
        **stack.settings,
        "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
        "COMPOSE_PROJECT_NAME": stack.project,
        "EMEND_PORT": str(stack.port),
    }
    done = run_commands(text, folder, settings, engine=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("whose", ["database", "broker"])
def test_a_new_password_is_taken_by_all(
    service: EmendClient, stack: Stack, tmp_path: Path, whose: str
) -> None:
    file = f"/run/secrets/{whose}/password"
    api = f"{stack.project}-api-1"
    former = docker("exec", api, "cat", file)
    number = len(service.get("/corrections")["corrections"])
    _run(stack, tmp_path, commands(f"The {whose}'s"))
    assert docker("exec", api, "cat", file) != former
    (job,) = service.correct([picture(1000 + len(whose))], ["cat"])
    assert service.wait_job(job)["status"] in {"succeeded", "rejected"}
    assert len(service.get("/corrections")["corrections"]) == number + 1


def test_an_upgrade_keeps_everything(service: EmendClient, stack: Stack, tmp_path: Path) -> None:
    known = service.get("/corrections")
    _run(stack, tmp_path, commands("Upgrading").replace("git pull\n", ""))
    assert service.get("/corrections") == known
