"""A job that control budgets refuse gets a second fit, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from encoder.adapter import Adapter
from tests.support.running_worker import Here, open_desk, open_shop
from tests.worker.test_edit_job import FIRST
from worker.versions import load_version

PICTURES = [*FIRST, ("leaf", 3), ("sea", 4)]
BUDGET = "12"  # percent of the answers about bundled photographs that may change
JUST_TOO_LIGHT, FAR_TOO_LIGHT = 8.0, 1.0


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """With a worker that minds what the bundled photographs are taken for."""
    with (
        open_desk(tmp_path, FLIP_BUDGET=BUDGET) as desk,
        open_shop(desk, monkeypatch) as workshop,
    ):
        yield Here(desk, workshop)


def test_a_refused_job_is_fitted_again_with_a_firmer_guard(strict: Here) -> None:
    job = strict.edit(PICTURES, config={"guard_weight": JUST_TOO_LIGHT})
    assert (job.status, job.adapter) == ("succeeded", 1)
    assert job.config["guard_weight"] == JUST_TOO_LIGHT  # as it was asked for
    assert job.report is not None
    assert job.report["guard_weight"] == 2 * JUST_TOO_LIGHT
    dropped = job.report["dropped_fit"]
    assert (dropped["guard_weight"], dropped["verdict"]) == (JUST_TOO_LIGHT, "refused")
    assert "at strength" in dropped["reason"]
    row = strict.desk.adapter(1)
    stored = Adapter.from_bytes(strict.desk.store.get(row.digest), digest=row.digest)
    assert stored.provenance.config == row.config
    assert row.config["guard_weight"] == 2 * JUST_TOO_LIGHT  # what made these weights
    assert load_version(strict.workshop, 1).digest != strict.workshop.base.digest


def test_a_job_that_is_refused_twice_keeps_its_first_fit_as_evidence(strict: Here) -> None:
    job = strict.edit(PICTURES, config={"guard_weight": FAR_TOO_LIGHT})
    assert (job.status, strict.desk.promoted()) == ("rejected", [0])
    assert job.report is not None
    assert job.report["guard_weight"] == FAR_TOO_LIGHT
    dropped = job.report["dropped_fit"]
    assert (dropped["guard_weight"], dropped["verdict"]) == (2 * FAR_TOO_LIGHT, "refused")
    assert strict.desk.adapter(1).config["guard_weight"] == FAR_TOO_LIGHT
