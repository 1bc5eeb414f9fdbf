"""What one training step is about: a batch of everything that is taught, and of what is guarded.

Legend: B examples, b guard images, S image side, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from editing.answer_lesson import AnswerLesson
from editing.augmentation import Augmentation
from editing.fewshot import EditTask
from editing.guard_term import GuardTerm
from editing.lessons import LabelLesson, Lesson
from editing.towers import Towers
from editing.training_config import TrainingConfig
from editing.vision import VisionFunction
from encoder.clip import Encoder

Note: TypeAlias = Callable[[Lesson, Tensor, Tensor], None]
"""Takes a lesson, positions of its examples [B] and their margins [B], as they come up."""


@dataclass(frozen=True)
class Lessons:
    """What a task teaches: labels, answers, or both."""

    labels: LabelLesson | None
    answers: Lesson | None

    @classmethod
    def of(
        cls, encoder: Encoder, towers: Towers, task: EditTask, config: TrainingConfig
    ) -> Lessons:
        """Raises VanishingGradient where nothing can be learnt from the labels, and as
        `Towers.label_texts`."""
        labels = answers = None
        if len(task):
            labels = LabelLesson(encoder, towers, task, config)
        if task.answers is not None:
            answers = AnswerLesson(towers.vision, task.answers, config)
        return cls(labels, answers)

    @property
    def all(self) -> list[Lesson]:
        """At least one."""
        return [each for each in (self.labels, self.answers) if each is not None]

    @property
    def sizes(self) -> tuple[int, int]:
        """Labelled corrections and questions."""
        labels, answers = (0 if each is None else len(each) for each in (self.labels, self.answers))
        return labels, answers


class Course:
    """Draws batches, all from one generator, and adds up their losses."""

    def __init__(
        self,
        vision: VisionFunction,
        lessons: Lessons,
        guard: GuardTerm,
        generator: torch.Generator,
    ) -> None:
        self.lessons = lessons
        self._vision = vision
        self._guard = guard
        self._generator = generator
        self._batches = {lesson.name: lesson.batches(generator) for lesson in lessons.all}

    def loss(self, weights: Mapping[str, Tensor], augmentation: Augmentation, note: Note) -> Tensor:
        """Of new batches, so varied, under these weights. Raises VanishingGradient (contrastive
        only)."""
        loss = self._features_loss(weights, augmentation, note)
        answers = self.lessons.answers
        if answers is not None:
            batch, pixels = self._draw(answers, augmentation)
            outcome = answers.outcome(weights, pixels, batch)
            note(answers, batch, outcome.margins)
            loss = loss + answers.weight * outcome.loss
        return loss

    def guard(self, weights: Mapping[str, Tensor]) -> float:
        """The guard's part of the loss, always of the same images; 0 where there is no guard."""
        positions, pixels = self._guard.sample()
        if not len(positions):
            return 0.0
        with torch.no_grad():
            return self._guard.loss(self._vision(pixels, weights), positions).item()

    def _features_loss(
        self, weights: Mapping[str, Tensor], augmentation: Augmentation, note: Note
    ) -> Tensor:
        """Of labels and guard: features of both in one forward."""
        labels = self.lessons.labels
        if labels is None:
            watched, pixels = self._guard.draw()
            if not len(watched):
                return torch.zeros((), device=self._vision.device)
            return self._guard.loss(self._vision(pixels, weights), watched)
        batch, corrections = self._draw(labels, augmentation)
        watched, pixels = self._guard.draw()
        features = self._vision(torch.cat([corrections, pixels]), weights)
        ours, theirs = features[: batch.numel()], features[batch.numel() :]
        outcome = labels.outcome_of(ours, weights, batch)
        note(labels, batch, outcome.margins)
        return outcome.loss + self._guard.loss(theirs, watched)

    def _draw(self, lesson: Lesson, augmentation: Augmentation) -> tuple[Tensor, Tensor]:
        """Positions long [B] and pixels uint8 [B, 3, S, S], varied."""
        batch = self._batches[lesson.name].draw()
        return batch, augmentation.apply(lesson.pixels[batch], self._generator)
