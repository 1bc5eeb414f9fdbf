"""What an edit is taught, a batch at a time: labels, or answers (`answers`); one loss for each.

Legend: B examples of a batch, N of the lesson, S image side, E embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.fewshot import ClassBalancedBatches, EditTask
from editing.objective import Objective
from editing.towers import Towers
from editing.training_config import TrainingConfig
from encoder.clip import Encoder


@dataclass(frozen=True)
class Outcome:
    """loss: mean over the batch · margins fp32 [B]: log-odds by which what is right leads."""

    loss: Tensor
    margins: Tensor


class Lesson(ABC):
    """Examples of one kind and how wrong the edit still is about them."""

    name: str  # of its loss

    def __init__(
        self,
        pixels: Tensor,
        *,
        kinds: Tensor,
        batch_size: int,
        weight: float,
        new: Tensor | None = None,
    ) -> None:
        """pixels uint8 [N, 3, S, S]; kinds long [N], drawn equally often; `weight` of the loss; new
        bool [N], those that the job is about (None: all)."""
        self.pixels = pixels
        self.kinds = kinds
        self.new = torch.ones(kinds.numel(), dtype=torch.bool) if new is None else new
        self.batch_size = batch_size
        self.weight = weight

    def __len__(self) -> int:
        return self.kinds.numel()

    def batches(self, generator: torch.Generator) -> ClassBalancedBatches:
        """Endless, for training."""
        return ClassBalancedBatches(self.kinds, self.batch_size, generator)

    def whole(
        self, _weights: Mapping[str, Tensor], _tell: Callable[[], None], /
    ) -> AbstractContextManager[None]:
        """Within it nothing that examples are compared with is older than these weights, and at
        its end all gradients have reached them. Called with these weights, and with what is to be
        called between chunks."""
        return nullcontext()

    @abstractmethod
    def outcome(self, weights: Mapping[str, Tensor], pixels: Tensor, batch: Tensor) -> Outcome:
        """Of examples at positions `batch` [B], shown as `pixels` [B, 3, S, S]."""

    def margins(self, weights: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        """fp32 [B], of examples as they are."""
        return self.outcome(weights, self.pixels[batch], batch).margins


class LabelLesson(Lesson):
    """Corrections with a right label."""

    def __init__(self, encoder: Encoder, towers: Towers, task: EditTask, config: TrainingConfig):
        """Raises VanishingGradient where nothing can be learnt, and as `Towers.label_texts`."""
        super().__init__(
            task.pixels,
            kinds=task.targets,
            batch_size=config.batch_size,
            weight=1.0,
            new=task.new.cpu(),
        )
        self._objective = Objective(encoder, task, config)
        self.name = self._objective.name
        self._vision = towers.vision
        self._texts = towers.label_texts(task)

    def whole(
        self, weights: Mapping[str, Tensor], tell: Callable[[], None], /
    ) -> AbstractContextManager[None]:
        return self._texts.whole(weights, tell)

    def outcome(self, weights: Mapping[str, Tensor], pixels: Tensor, batch: Tensor) -> Outcome:
        """Raises VanishingGradient (contrastive only)."""
        return self.outcome_of(self._vision(pixels, weights), weights, batch)

    def margins(self, weights: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        # Without the loss, which is not defined for every batch.
        features = self._vision(self.pixels[batch], weights)
        texts = self._read(features, weights, batch)
        return self._objective.margins(features, batch, texts)

    def outcome_of(self, features: Tensor, weights: Mapping[str, Tensor], batch: Tensor) -> Outcome:
        """The same for unit features [B, E]."""
        texts = self._read(features.detach(), weights, batch)
        margins = self._objective.margins(features.detach(), batch, texts.detach())
        return Outcome(self._objective.loss(features, batch, texts), margins)

    def _read(self, features: Tensor, weights: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        """fp32 [V, E]"""
        return self._texts.read(
            weights, lambda texts: self._objective.in_play(features, batch, texts)
        )
