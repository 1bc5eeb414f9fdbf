"""The training loop: Adam without weight decay, warm-up and cosine by optimizer steps (or
warm-up and the mean of what follows), early stop.

Weight decay would move every entry; plain Adam moves only those with a gradient. Steps are counted,
not epochs: thirty images at batch sixteen are about two steps an epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.swa_utils import get_swa_multi_avg_fn

from editing.augmentation import Augmentation
from editing.course import Course
from editing.early_stop import EarlyStop, Standing
from editing.errors import LossDiverged
from editing.parametrize import Parametrisation
from editing.progress import Progress
from editing.training_config import TrainingConfig

WORSE = 1.25
"""A round that leaves so many times the surprise, or the guard term, before it has diverged."""
SURE = 0.1
"""No rise of the surprise counts up to WORSE times so many nats: the right answers have nine
tenths."""
NEAR = 8.0
"""Nor one of the guard term up to WORSE times this: good edits leave 0.2 to 1.5, a tower whose
features are gone twice the guard's weight."""

FADE = 0.5
"""Variations of a round over those of the one before that was kept: what is taught is to hold for
other photos of its kind, but what is still wrong after a round is to be learnt as it was sent
(measured)."""


@dataclass
class History:
    """Loss of every step taken, all terms together."""

    losses: list[float] = field(default_factory=list)
    planned: int = 0  # steps by the end of the round that was begun last, unless it ends early
    stopped_early: bool = False
    undone: int = 0  # rounds that diverged and were taken back

    @property
    def steps(self) -> int:
        return len(self.losses)


def train(
    edited: Parametrisation, course: Course, config: TrainingConfig, *, progress: Progress
) -> History:
    """Move `edited`'s numbers, round after round until all that is taught is right.

    Step sizes grow from round to round, and photos vary less. But a round that diverges is undone,
    and those after it take half its step sizes and grow no more, of photos that vary as its did; a
    single round is never undone.
    For that every example is looked at between rounds, and a copy of all trained numbers is kept
    while one runs.

    Raises LossDiverged (the first loss of a round is no number, or any of a single round),
    VanishingGradient, what progress raises.
    """
    rounds = _Rounds(edited, course, config, progress)
    size, growth, varied = 1.0, config.growth, 1.0
    for number in range(config.rounds if rounds.steps else 0):
        if not rounds.take(size, config.augmentation.weaker(varied)):
            size, growth = size / 2, 1.0
            continue
        last = number + 1 == config.rounds  # then nothing depends on what was learnt
        if last or rounds.level.standing.right >= config.enough_right:
            break
        size, varied = size * growth, varied * FADE
    return rounds.history


@dataclass(frozen=True)
class Level:
    """Where an edit is: with what it teaches, and with what it is to spare."""

    standing: Standing
    guard: float  # that part of the loss

    def diverged_from(self, before: Level) -> bool:
        """Whether a round did harm, where it was to help or to spare."""
        surprise, then = self.standing.surprise, before.standing.surprise
        if not math.isfinite(surprise + self.guard):
            return True
        return surprise > WORSE * max(then, SURE) or self.guard > WORSE * max(before.guard, NEAR)


class _Rounds:
    """Takes rounds of `steps` steps, one after another, and takes back those that diverge."""

    def __init__(
        self,
        edited: Parametrisation,
        course: Course,
        config: TrainingConfig,
        progress: Progress,
    ) -> None:
        self.history = History()
        self._edited = edited
        self._course = course
        self._config = config
        self._progress = progress
        self._optimizer = torch.optim.Adam(
            [{"params": tensors, "lr": rate, "peak": rate} for tensors, rate in edited.groups()]
        )
        lessons = course.lessons
        self.steps = config.steps_for(*lessons.sizes)
        self._stop = EarlyStop(lessons.all, config, self._tell)
        self._level: Level | None = None

    @property
    def level(self) -> Level:
        """Of the numbers as they are between rounds, always of the same examples and images: losses
        of the steps are of whatever each drew, and differ where nothing moved."""
        if self._level is None:
            standing = self._stop.standing(self._edited)
            self._level = Level(standing, self._course.guard(self._edited.weights()))
        return self._level

    def take(self, size: float, augmentation: Augmentation) -> bool:
        """A round with `size` times the peak step sizes, of photos so varied; False: it diverged,
        and is undone.

        Raises LossDiverged, VanishingGradient, what progress raises.
        """
        self.history.planned = self.history.steps + self.steps
        if self._config.rounds == 1:
            self._run(size, augmentation)
            return True
        before, numbers = self.level, self._edited.snapshot()
        finite = self._run(size, augmentation)
        self._level = None
        if finite and not self.level.diverged_from(before):
            return True
        self._edited.restore(numbers)
        self._optimizer.state.clear()  # what it made of gradients that no longer count
        self._level = None  # and labels are to be read anew
        self.history.undone += 1
        return False

    def _run(self, size: float, augmentation: Augmentation) -> bool:
        """The steps of a round; False: the loss of one is not finite, and it is the last."""
        pace = Pace(self.steps, self._config)
        average = get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        history, mean, counted = self.history, list[Tensor](), 0
        for step in range(self.steps):
            self._tell()
            loss = self._course.loss(self._edited.trained_weights(), augmentation, self._stop.note)
            history.losses.append(loss.item())
            if not math.isfinite(history.losses[-1]):
                if step == 0 or self._config.rounds == 1:
                    raise LossDiverged(history.steps - 1)
                return False
            for group in self._optimizer.param_groups:
                group["lr"] = group["peak"] * size * pace.factor(step)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            del loss  # it would keep every edited weight until the next step has made its own
            self._optimizer.step()
            if pace.averages(step):
                mean = mean or self._edited.snapshot()
                average(mean, self._edited.trainable(), counted)
                counted += 1
            if pace.landed is None and self._stop.reached(self._edited):
                pace.landed = step
            if step + 1 >= pace.end:
                history.stopped_early = step + 1 < self.steps
                break
        if mean:
            self._edited.restore(mean)
        return True

    def _tell(self) -> None:
        last = self.history.losses[-1] if self.history.losses else None
        self._progress("training", self.history.steps, self.history.planned, last)


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
        self._averaging = config.averaging
        self._landing = round(config.landing * steps)
        self.landed: int | None = None
        """The step after which the landing begins."""

    @property
    def end(self) -> int:
        """Steps of this round."""
        if self.landed is None:
            return self._steps
        return min(self._steps, self.landed + 1 + self._landing)

    def averages(self, step: int) -> bool:
        """Whether what `step` (from 0) arrives at counts in the mean that the round ends with."""
        return step >= round((1 - self._averaging) * self._steps)

    def factor(self, step: int) -> float:
        """Part of the round's peak step size at `step`."""
        if self.landed is None:
            return self._untouched(step)
        top = self._untouched(self.landed)
        done = (step - self.landed) / max(1, self.end - self.landed)
        return top * (1 + math.cos(math.pi * done)) / 2

    def _untouched(self, step: int) -> float:
        """The same, had training not been stopped early; a mean wants steps that do not fall."""
        if self._averaging:
            return min(1.0, (step + 1) / max(1, round(self._warmup_fraction * self._steps)))
        return rate_factor(step, self._steps, self._warmup_fraction)
