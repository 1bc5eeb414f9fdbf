"""Edits that control budgets refuse are fitted once more, with a firmer guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from editing.errors import EditCancelled
from editing.fewshot import EditTask
from editing.gate import GateConfig, GateReport, judge
from editing.judged_fit import FIRMER, JudgedFit, fit_and_judge
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
        self.verdicts: list[GateReport] = []

    @property
    def task(self) -> EditTask:
        return replace(edit_task([0, 1, 2, 3, 4, 5, 0, 1]), guard_pixels=self.controls.pixels)

    def judge(self, candidate: Callable[[float], Encoder]) -> tuple[GateReport, float]:
        verdict, strength = judge(
            base=self.base,
            parent=self.base,
            start=self.base,
            make_candidate=candidate,
            task=self.task,
            controls=[self.controls],
            config=GateConfig(),
        )
        self.verdicts.append(verdict)
        return verdict, strength

    def edit(self, *, progress: Progress = silent, **config: object) -> JudgedFit:
        known = {"heads": 2, "fc1_fraction": 0.3, "epochs": 60, "guard_images": 64}
        return fit_and_judge(
            self.base,
            self.task,
            quick_config(**{**known, **config}),
            self.judge,
            seed=0,
            progress=progress,
        )


@pytest.fixture
def bench(base: Encoder) -> Bench:
    return Bench(base)


def test_an_edit_that_breaks_a_budget_is_fitted_again_with_a_firmer_guard(bench: Bench) -> None:
    made = bench.edit(guard_weight=JUST_TOO_LIGHT)
    first, second = bench.verdicts
    assert (first.verdict, second.verdict) == ("refused", "promoted")
    assert made.report is second
    assert made.config.guard_weight == FIRMER * JUST_TOO_LIGHT
    told = made.to_json()
    assert told["guard_weight"] == FIRMER * JUST_TOO_LIGHT
    assert told["dropped_fit"]["guard_weight"] == JUST_TOO_LIGHT
    assert told["dropped_fit"]["verdict"] == "refused"
    assert told["dropped_fit"]["reason"] == first.reason
    assert "the largest at which every control keeps its budget" in first.reason
    directly = Bench(bench.base)
    alone = directly.edit(guard_weight=FIRMER * JUST_TOO_LIGHT)
    assert alone.to_json()["dropped_fit"] is None
    assert len(directly.verdicts) == 1
    assert alone.report.to_json() == made.report.to_json()


def test_two_refusals_leave_the_edit_that_was_asked_for(bench: Bench) -> None:
    made = bench.edit(guard_weight=FAR_TOO_LIGHT)
    first, second = bench.verdicts
    assert made.report is first
    assert made.config.guard_weight == FAR_TOO_LIGHT
    dropped = made.to_json()["dropped_fit"]
    assert (dropped["guard_weight"], dropped["verdict"]) == (FIRMER * FAR_TOO_LIGHT, "refused")
    assert dropped["reason"] == second.reason


def test_what_is_not_learnt_is_no_reason_for_a_firmer_guard(bench: Bench) -> None:
    made = bench.edit(guard_weight=TOO_HEAVY)
    assert (made.report.verdict, made.report.held_back) == ("refused", False)
    assert len(bench.verdicts) == 1


@pytest.mark.parametrize("config", [{"guard_weight": 0}, {"guard_images": 0}])
def test_without_a_guard_there_is_nothing_to_make_firmer(
    bench: Bench, config: dict[str, object]
) -> None:
    made = bench.edit(**{"guard_weight": JUST_TOO_LIGHT, **config})
    assert (made.report.verdict, made.report.held_back) == ("refused", True)
    assert len(bench.verdicts) == 1


def test_the_second_fit_can_be_cancelled(bench: Bench) -> None:
    def stop(phase: str, *_: object) -> None:
        if bench.verdicts and phase == "training":
            raise EditCancelled

    with pytest.raises(EditCancelled):
        bench.edit(guard_weight=JUST_TOO_LIGHT, progress=stop)
    assert len(bench.verdicts) == 1
