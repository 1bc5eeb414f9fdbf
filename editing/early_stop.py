"""How far training has come, and when it has done enough: every example is right with a margin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.lessons import Lesson
from editing.parametrize import Parametrisation
from editing.training_config import TrainingConfig

ALMOST_ALL = 0.9
"""Share of examples seen right with margin in training before all are looked at again."""


@dataclass(frozen=True)
class Standing:
    """Of all that is taught, its examples as they are, without augmentation.

    surprise    mean of -log p, p of the right one against its strongest rival alone, nats
    right       share that leads, by any margin; of all or of the new ones, whichever is smaller: a
                job is refused for these, however many others it has
    """

    surprise: float
    right: float


class EarlyStop:
    """Says when every example is right with a margin, looking as seldom as it can.

    Margins seen in training are free; only when nearly all of them suffice, once a pass, are all
    examples looked at as they are.
    """

    def __init__(
        self, lessons: Sequence[Lesson], config: TrainingConfig, tell: Callable[[], None]
    ) -> None:
        """`tell` is called between chunks of images, and may raise what ends the training."""
        self._lessons = lessons
        self._tell = tell
        self._margin = config.stop_margin
        self.steps_a_pass = max(math.ceil(len(lesson) / lesson.batch_size) for lesson in lessons)
        self._seen = [torch.full((len(lesson),), -torch.inf) for lesson in lessons]
        self._steps = 0

    def note(self, lesson: Lesson, batch: Tensor, margins: Tensor) -> None:
        """Margins [B] that training has seen, before its step."""
        self._seen[self._lessons.index(lesson)][batch] = margins.cpu()

    def reached(self, edited: Parametrisation) -> bool:
        """After a step."""
        self._steps += 1
        shares = [(seen >= self._margin).float().mean().item() for seen in self._seen]
        if min(shares) < ALMOST_ALL or self._steps % self.steps_a_pass:
            return False
        return bool((self._margins(edited) >= self._margin).all())

    def standing(self, edited: Parametrisation) -> Standing:
        """Looks at every example. Whatever labels are compared with is as these numbers have it
        afterwards."""
        margins = self._margins(edited)
        right = margins > 0
        new = right[torch.cat([lesson.new for lesson in self._lessons])]
        share = min(part.float().mean().item() for part in (right, new) if part.numel())
        return Standing(F.softplus(-margins).mean().item(), share)

    def _margins(self, edited: Parametrisation) -> Tensor:
        """fp32, of every example of every lesson."""
        margins = []
        with torch.no_grad():
            weights = edited.weights()
            for lesson in self._lessons:
                with lesson.whole(weights, self._tell):
                    for part in torch.split(torch.arange(len(lesson)), lesson.batch_size):
                        self._tell()
                        margins.append(lesson.margins(weights, part).cpu())
        return torch.cat(margins)
