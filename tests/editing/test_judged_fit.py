"""Edits that control budgets refuse are fitted once more, with a firmer guard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from editing.errors import EditCancelled
from editing.fewshot import EditTask
from editing.gate import GateConfig, GateReport, judge
from editing.judged_fit import FIRMER, JudgedFit, fit_and_judge
from editing.methods import Fit
from editing.progress import Progress, silent
from encoder.clip import Encoder
from tests.support.edit_task import control_set, edit_task, quick_config
from tests.support.tiny_encoder import tiny_encoder

BASE = pytest.fixture(name="base")(tiny_encoder)
JUST_TOO_LIGHT = 15.0  # a guard that breaks the budget, while one of twice the weight keeps it
FAR_TOO_LIGHT = 1.0
TOO_HEAVY = 300.0  # nothing is learnt beside it
BUDGET = 5.0


class Bench:
    """Eight corrections of a tiny encoder, judged on photographs that its guard knows."""

    def __init__(self, base: Encoder) -> None:
        self.base, self.controls = base, control_set(base, budget=BUDGET)
        self.fits: list[Fit] = []

    @property
    def task(self) -> EditTask:
        return replace(edit_task([0, 1, 2, 3, 4, 5, 0, 1]), guard_pixels=self.controls.pixels)

    def judged(self, fitted: Fit) -> tuple[GateReport, float]:
        self.fits.append(fitted)
        return judge(
            base=self.base,
            parent=self.base,
            start=self.base,
            make_candidate=lambda strength: self.base.merged_deltas(
                {name: delta.scaled(strength) for name, delta in fitted.deltas.items()}, label=""
            ),
            task=self.task,
            controls=[self.controls],
            config=GateConfig(),
        )

    def edit(self, *, progress: Progress = silent, **config: object) -> JudgedFit:
        known = {"heads": 2, "fc1_fraction": 0.3, "epochs": 60, "guard_images": 64}
        return fit_and_judge(
            self.base,
            self.task,
            quick_config(**{**known, **config}),
            self.judged,
            seed=0,
            progress=progress,
        )


@pytest.fixture
def bench(base: Encoder) -> Bench:
    return Bench(base)


def test_an_edit_that_breaks_a_budget_is_fitted_again_with_a_firmer_guard(bench: Bench) -> None:
    made = bench.edit(guard_weight=JUST_TOO_LIGHT)
    first, second = bench.fits
    assert made.fitted is second
    assert made.report.verdict == "promoted"
    assert made.config.guard_weight == FIRMER * JUST_TOO_LIGHT
    told = made.to_json()
    assert told["guard_weight"] == FIRMER * JUST_TOO_LIGHT
    [dropped] = told["dropped_fits"]
    assert (dropped["guard_weight"], dropped["verdict"]) == (JUST_TOO_LIGHT, "refused")
    assert dropped["reason"] == bench.judged(first)[0].reason
    assert "the largest at which every control keeps its budget" in dropped["reason"]
    directly = Bench(bench.base)
    alone = directly.edit(guard_weight=FIRMER * JUST_TOO_LIGHT)
    assert alone.to_json()["dropped_fits"] == []
    assert len(directly.fits) == 1
    assert alone.report.to_json() == made.report.to_json()


def test_two_refusals_leave_the_edit_that_was_asked_for(bench: Bench) -> None:
    made = bench.edit(guard_weight=FAR_TOO_LIGHT)
    first, _second = bench.fits
    assert (made.fitted, made.report.verdict) == (first, "refused")
    assert made.config.guard_weight == FAR_TOO_LIGHT
    [dropped] = made.to_json()["dropped_fits"]
    assert (dropped["guard_weight"], dropped["verdict"]) == (FIRMER * FAR_TOO_LIGHT, "refused")


def test_what_is_not_learnt_is_no_reason_for_a_firmer_guard(bench: Bench) -> None:
    made = bench.edit(guard_weight=TOO_HEAVY)
    assert (made.report.verdict, made.report.held_back) == ("refused", False)
    assert len(bench.fits) == 1


@pytest.mark.parametrize("config", [{"guard_weight": 0}, {"guard_images": 0}])
def test_without_a_guard_there_is_nothing_to_make_firmer(
    bench: Bench, config: dict[str, object]
) -> None:
    made = bench.edit(**{"guard_weight": JUST_TOO_LIGHT, **config})
    assert (made.report.verdict, made.report.held_back) == ("refused", True)
    assert len(bench.fits) == 1


def test_the_second_fit_can_be_cancelled(bench: Bench) -> None:
    def stop(phase: str, *_: object) -> None:
        if bench.fits and phase == "training":
            raise EditCancelled

    with pytest.raises(EditCancelled):
        bench.edit(guard_weight=JUST_TOO_LIGHT, progress=stop)
    assert len(bench.fits) == 1
