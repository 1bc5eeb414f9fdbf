"""What holds an edit back: features of images that it is not about stay where they were."""

from __future__ import annotations

import torch
from torch import Tensor

from editing import losses
from editing.fewshot import Deck, EditTask
from editing.training_config import TrainingConfig
from encoder.clip import Encoder

SAMPLE = 32
"""Images that tell how far an edit has gone."""


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

    def sample(self) -> tuple[Tensor, Tensor]:
        """Always the same, evenly spaced: as `draw`, b = SAMPLE at most."""
        count = self._pixels.shape[0]
        positions = torch.arange(0, count, max(1, -(-count // SAMPLE)))
        return positions, self._pixels[positions]

    def loss(self, features: Tensor, positions: Tensor) -> Tensor:
        """Weighted distance of unit features [b, E] from the frozen ones."""
        if not self._active:
            return features.new_zeros(())
        frozen = self._frozen[positions.to(features.device)]
        return self._weight * losses.guard(features, frozen)
