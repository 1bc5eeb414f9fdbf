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
from encoder.clip import Encoder

FIRMER = 2.0  # of the guard's weight, in the second fit
HEAVIEST = 1e6  # guard weight, as in the config

Judge = Callable[[Fit], tuple[GateReport, float]]


@dataclass(frozen=True)
class JudgedFit:
    """An edit, the config it was fitted by, the gate's report, and the strength to serve it at.

    `others` are fits that were made and dropped. The seconds are this one's.
    """

    fitted: Fit
    config: MethodConfig
    report: GateReport
    strength: float
    fitting_seconds: float
    gating_seconds: float
    others: tuple[JudgedFit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What a report says of it beside the gate's own words."""
        return {
            "guard_weight": self.config.guard_weight,
            "dropped_fits": [
                {
                    "guard_weight": other.config.guard_weight,
                    "verdict": other.report.verdict,
                    "reason": other.report.reason,
                    "seconds": other.fitting_seconds + other.gating_seconds,
                }
                for other in self.others
            ],
        }


def fit_and_judge(
    start: Encoder,
    task: EditTask,
    config: MethodConfig,
    judged: Judge,
    *,
    seed: int,
    progress: Progress = silent,
) -> JudgedFit:
    """Fits `task` on `start` and has it `judged`; once more where control budgets alone stood
    against it and a guard is there to be made firmer. A second fit that is refused, too, is
    dropped: the first is the one that was asked for. Raises editing.errors.EditError.
    """
    first = _once(start, task, config, judged, seed, progress)
    weight = min(FIRMER * config.guard_weight, HEAVIEST)
    firm = weight == config.guard_weight or not min(len(task.guard_pixels), config.guard_images)
    if first.report.verdict == "promoted" or not first.report.held_back or firm:
        return first
    firmer = config.model_copy(update={"guard_weight": weight})
    second = _once(start, task, firmer, judged, seed, progress)
    if second.report.verdict == "promoted":
        return replace(second, others=(first,))
    return replace(first, others=(second,))


def _once(
    start: Encoder,
    task: EditTask,
    config: MethodConfig,
    judged: Judge,
    seed: int,
    progress: Progress,
) -> JudgedFit:
    began = time.monotonic()
    fitted = fit(start, task, config, seed=seed, progress=progress)
    trained = time.monotonic()
    report, strength = judged(fitted)
    ended = time.monotonic()
    return JudgedFit(fitted, config, report, strength, trained - began, ended - trained)
