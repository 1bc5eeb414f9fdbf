"""A fit and the gate's verdict on it. What its guard could not hold is fitted once more, firmer.

A control budget of 0.5 points is two photographs of 500: that a draw breaks it by a third is chance
more often than harm, and a job of hundreds of corrections should not end by it. A guard of twice
the weight changes less of what should stay, and still teaches a job of many corrections.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from editing.fewshot import EditTask
from editing.gate import GateReport
from editing.methods import Fit, MethodConfig, fit
from editing.progress import Progress, silent
from editing.training_config import HEAVIEST_GUARD
from encoder.clip import Encoder

FIRMER = 2.0  # of the guard's weight, in the second fit

Judge = Callable[[Callable[[float], Encoder]], tuple[GateReport, float]]
"""`editing.gate.judge` on everything but the candidate at each strength."""


@dataclass(frozen=True)
class JudgedFit:
    """An edit, the config it was fitted by, the gate's report, and the strength to serve it at.

    `dropped` is the other fit, where two were made. The seconds are this one's.
    """

    fitted: Fit
    config: MethodConfig
    report: GateReport
    strength: float
    fitting_seconds: float
    gating_seconds: float
    dropped: JudgedFit | None = None

    def to_json(self) -> dict[str, Any]:
        """What a report says of it beside the gate's own words."""
        other = self.dropped
        told = other and {
            "guard_weight": other.config.guard_weight,
            "verdict": other.report.verdict,
            "reason": other.report.reason,
            "seconds": other.fitting_seconds + other.gating_seconds,
        }
        return {"guard_weight": self.config.guard_weight, "dropped_fit": told}


def fit_and_judge(
    start: Encoder,
    task: EditTask,
    config: MethodConfig,
    judge: Judge,
    *,
    seed: int,
    progress: Progress = silent,
) -> JudgedFit:
    """Fits `task` on `start` and asks `judge`; once more where control budgets alone stood
    against it and a guard is there to be made firmer. A second fit that is refused, too, is
    dropped: the first is the one that was asked for. Raises editing.errors.EditError.
    """
    first = _once(start, task, config, judge, seed, progress)
    weight = min(FIRMER * config.guard_weight, HEAVIEST_GUARD)
    firm = weight == config.guard_weight or not min(len(task.guard_pixels), config.guard_images)
    if first.report.verdict == "promoted" or not first.report.held_back or firm:
        return first
    firmer = config.model_copy(update={"guard_weight": weight})
    second = _once(start, task, firmer, judge, seed, progress)
    if second.report.verdict == "promoted":
        return replace(second, dropped=first)
    return replace(first, dropped=second)


def _once(
    start: Encoder,
    task: EditTask,
    config: MethodConfig,
    judge: Judge,
    seed: int,
    progress: Progress,
) -> JudgedFit:
    began = time.monotonic()
    fitted = fit(start, task, config, seed=seed, progress=progress)
    trained = time.monotonic()
    report, strength = judge(
        lambda strength: start.merged_deltas(
            fitted.at(strength), label=f"candidate at strength {strength}"
        )
    )
    ended = time.monotonic()
    return JudgedFit(fitted, config, report, strength, trained - began, ended - trained)
