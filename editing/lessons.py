"""What an edit is taught, a batch at a time: labels, or answers (`answers`); one loss for each.

Legend: B examples of a batch, N of the lesson, S image side, E embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.fewshot import ClassBalancedBatches, EditTask
from editing.objective import Objective
from editing.training_config import TrainingConfig
from editing.vision import VisionFunction


@dataclass(frozen=True)
class Outcome:
    """loss: mean over the batch · margins fp32 [B]: log-odds by which what is right leads."""

    loss: Tensor
    margins: Tensor


class Lesson(ABC):
    """Examples of one kind and how wrong the edit still is about them."""

    name: str  # of its loss

    def __init__(self, pixels: Tensor, *, kinds: Tensor, batch_size: int, weight: float) -> None:
        """pixels uint8 [N, 3, S, S]; kinds long [N], drawn equally often; `weight` of the loss."""
        self.pixels = pixels
        self.kinds = kinds
        self.batch_size = batch_size
        self.weight = weight

    def __len__(self) -> int:
        return self.kinds.numel()

    def batches(self, generator: torch.Generator) -> ClassBalancedBatches:
        """Endless, for training."""
        return ClassBalancedBatches(self.kinds, self.batch_size, generator)

    @abstractmethod
    def outcome(self, weights: Mapping[str, Tensor], pixels: Tensor, batch: Tensor) -> Outcome:
        """Of examples at positions `batch` [B], shown as `pixels` [B, 3, S, S]."""

    def margins(self, weights: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        """fp32 [B], of examples as they are."""
        return self.outcome(weights, self.pixels[batch], batch).margins


class LabelLesson(Lesson):
    """Corrections with a right label."""

    def __init__(
        self, vision: VisionFunction, objective: Objective, task: EditTask, config: TrainingConfig
    ) -> None:
        super().__init__(task.pixels, kinds=task.targets, batch_size=config.batch_size, weight=1.0)
        self.name = objective.name
        self._vision = vision
        self._objective = objective

    def outcome(self, weights: Mapping[str, Tensor], pixels: Tensor, batch: Tensor) -> Outcome:
        """Raises VanishingGradient (contrastive only)."""
        return self.outcome_of(self._vision(pixels, weights), batch)

    def margins(self, weights: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        # Without the loss, which is not defined for every batch.
        return self._objective.margins(self._vision(self.pixels[batch], weights), batch)

    def outcome_of(self, features: Tensor, batch: Tensor) -> Outcome:
        """The same for unit features [B, E]."""
        margins = self._objective.margins(features.detach(), batch)
        return Outcome(self._objective.loss(features, batch), margins)
