"""The training loop: Adam without weight decay, warm-up and cosine by optimizer steps, early stop.

Weight decay would move every entry; plain Adam moves only those with a gradient. Steps are counted,
not epochs: thirty images at batch sixteen are about two steps an epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from editing.course import Course
from editing.early_stop import EarlyStop
from editing.errors import LossDiverged
from editing.parametrize import Parametrisation
from editing.progress import Progress
from editing.training_config import TrainingConfig


@dataclass
class History:
    """Loss of every step taken, all terms together."""

    losses: list[float] = field(default_factory=list)
    planned: int = 0  # steps of all rounds that were begun
    stopped_early: bool = False

    @property
    def steps(self) -> int:
        return len(self.losses)


def train(
    edited: Parametrisation, course: Course, config: TrainingConfig, *, progress: Progress
) -> History:
    """Move `edited`'s numbers, round after round until all that is taught is right.

    Raises LossDiverged, VanishingGradient, what progress raises.
    """
    optimizer = torch.optim.Adam(
        [{"params": tensors, "lr": rate, "peak": rate} for tensors, rate in edited.groups()]
    )
    lessons = course.lessons
    steps = config.steps_for(*lessons.sizes)
    history = History()

    def tell() -> None:
        last = history.losses[-1] if history.losses else None
        progress("training", history.steps, history.planned, last)

    stop = EarlyStop(lessons.all, config, tell)
    for number in range(config.rounds):
        pace = Pace(steps, config)
        history.planned += steps
        for step in range(steps):
            tell()
            loss = course.loss(edited.trained_weights(), stop.note)
            history.losses.append(loss.item())
            if not math.isfinite(history.losses[-1]):
                raise LossDiverged(history.steps - 1)
            factor = config.growth**number * pace.factor(step)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            del loss  # it would keep every edited weight until the next step has made its own
            optimizer.step()
            if pace.landed is None and stop.reached(edited):
                pace.landed = step
            if step + 1 >= pace.end:
                history.stopped_early = step + 1 < steps
                break
        last = number + 1 == config.rounds  # then nothing depends on what was learnt
        if last or stop.share_right(edited) >= config.enough_right:
            break
    return history


def rate_factor(step: int, steps: int, warmup_fraction: float) -> float:
    """Part of the peak step size at `step` (from 0): linear warm-up, then cosine towards 0."""
    warmup = max(1, round(warmup_fraction * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


class Pace:
    """The step sizes of one round, and where it ends.

    It may end early, but not abruptly: at full step sizes the guard term has not yet repaired what
    the first steps broke, so the sizes fall to zero over some further steps, the landing.
    """

    def __init__(self, steps: int, config: TrainingConfig) -> None:
        self._steps = steps
        self._warmup_fraction = config.warmup_fraction
        self._landing = round(config.landing * steps)
        self.landed: int | None = None
        """The step after which the landing begins."""

    @property
    def end(self) -> int:
        """Steps of this round."""
        if self.landed is None:
            return self._steps
        return min(self._steps, self.landed + 1 + self._landing)

    def factor(self, step: int) -> float:
        """Part of the round's peak step size at `step`."""
        if self.landed is None:
            return rate_factor(step, self._steps, self._warmup_fraction)
        top = rate_factor(self.landed, self._steps, self._warmup_fraction)
        done = (step - self.landed) / max(1, self.end - self.landed)
        return top * (1 + math.cos(math.pi * done)) / 2
