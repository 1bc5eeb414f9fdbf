"""What all methods have in common: a config that says what may move and how, and the fit itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editing.course import Course, Lessons
from editing.fewshot import EditTask
from editing.guard_term import GuardTerm
from editing.importance import mean_gradients
from editing.parametrize import Forms, Parametrisation, parametrise
from editing.progress import Progress, silent
from editing.selection import Selection
from editing.towers import Towers
from editing.trainer import History, train
from editing.training_config import TrainingConfig
from encoder.clip import Encoder
from encoder.deltas import Delta
from encoder.tower import Tower, view_text_tower


@dataclass(frozen=True)
class Subject:
    """What is to be edited, and by what it is pulled.

    gradients   the task's mean gradients of the weights of these names, computed when it is called;
                raises VanishingGradient
    guard       uint8 [G, 3, S, S], images whose features should stay; None: none
    seed        of the fit
    text        the text tower where it is to move too, else None
    """

    encoder: Encoder
    gradients: Callable[[Sequence[str]], Mapping[str, Tensor]]
    guard: Tensor | None = None
    seed: int = 0
    text: Tower | None = None

    @property
    def towers(self) -> tuple[Tower, ...]:
        """Those that move, that of images first."""
        vision = self.encoder.tower
        return (vision,) if self.text is None else (vision, self.text)


@dataclass(frozen=True)
class Start:
    """What trainable numbers begin with.

    subject     what they are to edit
    frozen      the encoder's weight of this name, fp32 and without gradient
    pace        factor of the peak step sizes, by the size of the job
    generator   of whatever starts at random
    """

    subject: Subject
    frozen: Callable[[str], Tensor]
    pace: float
    generator: torch.Generator


class MethodConfig(TrainingConfig, ABC):
    """A method: its numbers, and what it lets move."""

    @abstractmethod
    def select(self, subject: Subject) -> Selection:
        """What may move for one update. Raises VanishingGradient."""

    @property
    @abstractmethod
    def forms(self) -> Forms:
        """How it moves, with the peak step sizes of a job of ordinary size."""

    def prepare(self, selection: Selection, start: Start) -> Parametrisation:
        """What is selected as trainable numbers, all of them at the identity."""
        forms = self.forms.at_pace(start.pace)
        return parametrise(start.frozen, selection, forms, generator=start.generator)


@dataclass(frozen=True)
class Fit:
    """What a fit hands back: `deltas` by parameter name, and how they came about.

    `parameters` counts the numbers that were trained, `summary` is JSON-able.
    """

    deltas: dict[str, Delta]
    history: History
    selection: Selection

    def at(self, strength: float) -> dict[str, Delta]:
        """The deltas at this strength; 1 is the whole edit."""
        if strength == 1:
            return dict(self.deltas)
        return {name: delta.scaled(strength) for name, delta in self.deltas.items()}

    @property
    def parameters(self) -> int:
        return sum(delta.parameters for delta in self.deltas.values())

    @property
    def summary(self) -> Mapping[str, Any]:
        return {
            "steps": self.history.steps,
            "stopped_early": self.history.stopped_early,
            "undone_rounds": self.history.undone,
            "losses": list(self.history.losses),
            "parameters": self.parameters,
            "selection": self.selection.summary(),
        }


def fit(
    encoder: Encoder,
    task: EditTask,
    config: MethodConfig,
    *,
    seed: int,
    progress: Progress = silent,
) -> Fit:
    """Fit one edit on top of `encoder`, which is left untouched. Same inputs, same bytes.

    Raises VanishingGradient, LossDiverged, whatever `progress` raises, and for questions
    PromptTooLong and AnswerTooLong of `encoder.vlm.errors`. With both towers: UnknownTowerLayout
    for a text tower that is none of open_clip's, InvalidTask without the labels' prompts.
    """
    towers = Towers(encoder, config)
    lessons = Lessons.of(encoder, towers, task, config)

    def gradients(names: Sequence[str]) -> Mapping[str, Tensor]:
        return mean_gradients(towers.weight, names, lessons.all, progress=progress)

    guarded = task.guard_pixels[: config.guard_images]
    text = None if towers.text is None else view_text_tower(encoder.model)
    subject = Subject(encoder, gradients, guarded, seed, text)
    selection = config.select(subject)
    generator = torch.Generator().manual_seed(seed)
    start = Start(subject, towers.weight, config.rate_for(*lessons.sizes), generator)
    edited = config.prepare(selection, start)
    guard = GuardTerm(encoder, task, config, generator)
    course = Course(towers.vision, lessons, guard, generator)
    history = train(edited, course, config, progress=progress)
    return Fit(edited.extract(), history, selection)
