"""The runbook's commands on a real engine: everything goes, and comes back from the backup."""

from __future__ import annotations

from pathlib import Path

import pytest

from client import EmendClient
from demo.photos import digits
from tests.support.operations import commands, run_commands
from tests.support.pictures import first_of_each
from tests.support.service import picture
from tests.support.stack import ROOT, Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]
KEPT = ("/adapters/live", "/corrections", "/promotions")


def test_a_backup_survives_the_loss_of_every_volume(
    service: EmendClient, stack: Stack, tmp_path: Path
) -> None:
    given = first_of_each(digits(seed=1).corrections, 3, labels=4)
    service.put_label_set("digits", list(dict.fromkeys(given.labels)))
    (job,) = service.correct(given.images, given.labels, label_set="digits")
    assert service.wait_job(job)["adapter"] == service.adapter("live")["version"] == 1
    before = [service.get(path) for path in KEPT]
    settings = {
        **stack.settings,
        "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
        "COMPOSE_PROJECT_NAME": stack.project,
        "EMEND_PORT": str(stack.port),
    }
    made = run_commands(commands("In containers", 0), tmp_path, settings, engine=True)
    assert made.returncode == 0, made.stdout + made.stderr
    stack.end()
    assert not stack.volumes()
    restored = run_commands(commands("In containers", 1), tmp_path, settings, engine=True)
    try:
        assert restored.returncode == 0, restored.stdout + restored.stderr
        assert "all is well" in restored.stdout
        assert [service.get(path) for path in KEPT] == before
        assert service.correct([picture(77)], ["cat"])
    finally:
        stack.end()
