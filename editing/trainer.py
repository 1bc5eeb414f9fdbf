"""The training loop: Adam without weight decay, warm-up and cosine by optimizer steps, early stop.

Weight decay would move every entry; plain Adam moves only those with a gradient. Steps are counted,
not epochs: thirty images at batch sixteen are about two steps an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from editing import losses
from editing.errors import LossDiverged
from editing.fewshot import ClassBalancedBatches, Deck, EditTask
from editing.objective import Objective
from editing.parametrize import Parametrisation
from editing.progress import Progress
from editing.training_config import TrainingConfig
from encoder.clip import Encoder

ALMOST_ALL = 0.9
"""Share of images seen right with margin in training before all are looked at again."""


@dataclass
class History:
    """Loss of every step taken, guard term included."""

    losses: list[float] = field(default_factory=list)
    planned: int = 0  # steps of all rounds that were begun
    stopped_early: bool = False

    @property
    def steps(self) -> int:
        return len(self.losses)


def train(
    edited: Parametrisation,
    task: EditTask,
    config: TrainingConfig,
    *,
    objective: Objective,
    guard: GuardTerm,
    generator: torch.Generator,
    progress: Progress,
) -> History:
    """Move `edited`'s numbers, round after round until the corrections are right.

    Raises LossDiverged, VanishingGradient, what progress raises.
    """
    batches = ClassBalancedBatches(task.targets, config.batch_size, generator)
    optimizer = torch.optim.Adam(
        [{"params": tensors, "lr": rate, "peak": rate} for tensors, rate in edited.groups()]
    )
    steps = config.steps_for(len(task))
    history = History()

    def tell() -> None:
        last = history.losses[-1] if history.losses else None
        progress("training", history.steps, history.planned, last)

    stop = EarlyStop(task, config, tell)
    for number in range(config.rounds):
        pace = Pace(steps, config)
        history.planned += steps
        for step in range(steps):
            tell()
            batch = batches.draw()
            corrections = config.augmentation.apply(task.pixels[batch], generator)
            watched, guard_pixels = guard.draw()
            features = edited.features(torch.cat([corrections, guard_pixels]))
            ours, theirs = features[: batch.numel()], features[batch.numel() :]
            loss = objective.loss(ours, batch) + guard.loss(theirs, watched)
            history.losses.append(loss.item())
            if not math.isfinite(history.losses[-1]):
                raise LossDiverged(history.steps - 1)
            factor = config.growth**number * pace.factor(step)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if pace.landed is None and stop.reached(edited, objective, batch, ours):
                pace.landed = step
            if step + 1 >= pace.end:
                history.stopped_early = step + 1 < steps
                break
        if stop.share_right(edited, objective) >= config.enough_right:
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


class GuardTerm:
    """Keeps the features of guard images where the frozen encoder has them; nothing without any."""

    def __init__(
        self, encoder: Encoder, task: EditTask, config: TrainingConfig, generator: torch.Generator
    ) -> None:
        self._weight = config.guard_weight
        self._pixels = task.guard_pixels[: config.guard_images]
        self._active = self._weight > 0 and self._pixels.shape[0] > 0
        if not self._active:
            self._pixels = self._pixels[:0]
            return
        frozen = task.guard_features
        if frozen is None:
            frozen = encoder.embed_images(self._pixels)
        self._frozen = frozen.to(encoder.device)
        self._deck = Deck(torch.arange(self._pixels.shape[0]), generator)
        self._size = min(config.guard_batch_size, self._pixels.shape[0])

    def draw(self) -> tuple[Tensor, Tensor]:
        """Positions long [b] and their pixels uint8 [b, 3, S, S]; b = 0 when there is no guard."""
        count = self._size if self._active else 0
        positions = torch.tensor([self._deck.deal() for _ in range(count)], dtype=torch.long)
        return positions, self._pixels[positions]

    def loss(self, features: Tensor, positions: Tensor) -> Tensor:
        """Weighted distance of unit features [b, E] from the frozen ones."""
        if not self._active:
            return features.new_zeros(())
        frozen = self._frozen[positions.to(features.device)]
        return self._weight * losses.guard(features, frozen)


class EarlyStop:
    """Says when every correction is right with a margin, looking as seldom as it can.

    Margins seen in training are free; only when nearly all of them suffice, once a pass, are all
    corrections looked at as they are.
    """

    def __init__(self, task: EditTask, config: TrainingConfig, tell: Callable[[], None]) -> None:
        """`tell` is called between chunks of images, and may raise what ends the training."""
        self._task = task
        self._tell = tell
        self._margin = config.stop_margin
        self._chunk = config.batch_size
        self._pass = math.ceil(len(task) / config.batch_size)
        self._seen = torch.full((len(task),), -torch.inf)
        self._steps = 0

    def reached(
        self, edited: Parametrisation, objective: Objective, batch: Tensor, features: Tensor
    ) -> bool:
        """After a step on images `batch` [B], whose features [B, E] were those before it."""
        self._steps += 1
        self._seen[batch] = objective.margins(features.detach(), batch).cpu()
        enough = (self._seen >= self._margin).float().mean().item() >= ALMOST_ALL
        if not enough or self._steps % self._pass:
            return False
        return bool((self._margins(edited, objective) >= self._margin).all())

    def share_right(self, edited: Parametrisation, objective: Objective) -> float:
        """Of all corrections as they are, without augmentation: how many lead, by any margin."""
        return (self._margins(edited, objective) > 0).float().mean().item()

    def _margins(self, edited: Parametrisation, objective: Objective) -> Tensor:
        """fp32 [N]."""
        margins = []
        with torch.no_grad():
            for part in torch.split(torch.arange(len(self._task)), self._chunk):
                self._tell()
                features = edited.features(self._task.pixels[part])
                margins.append(objective.margins(features, part).cpu())
        return torch.cat(margins)
