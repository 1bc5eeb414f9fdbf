"""The task's loss for a batch of its images, as configured.

Legend: B images of the batch, V labels of the vocabulary, E embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from editing import losses
from editing.errors import VanishingGradient
from editing.fewshot import EditTask
from editing.training_config import TrainingConfig
from encoder.clip import Encoder


class Objective:
    """Holds the task's targets on the encoder's device. `texts` are the labels' unit features,
    fp32 [V, E]: the task's own, or as an edit moved them."""

    def __init__(self, encoder: Encoder, task: EditTask, config: TrainingConfig) -> None:
        """Raises VanishingGradient where no image could be taken for anything but what it is."""
        device = torch.device(encoder.device)
        self._scale = encoder.logit_scale
        self.name = config.loss
        self._most_texts = config.text_labels
        self._targets = task.targets.to(device)
        self._allowed = task.allowed.to(device)
        competing = config.competing(encoder, task)
        if self.name == "cross-entropy" and int(competing.sum(dim=1).max()) < 2:
            raise VanishingGradient(self.name, "no label competes with the right ones")
        self._competing = competing.to(device)

    def logits(self, features: Tensor, batch: Tensor, texts: Tensor) -> Tensor:
        """fp32 [B, V] for unit features [B, E] of the task's images at positions `batch` [B]; -inf
        for labels that do not compete."""
        batch = batch.to(features.device)
        return losses.masked_logits(features, texts, self._competing[batch], self._scale)

    def loss(self, features: Tensor, batch: Tensor, texts: Tensor) -> Tensor:
        """Mean over the batch. Raises VanishingGradient (contrastive only)."""
        targets = self._targets[batch.to(features.device)]
        if self.name == "contrastive":
            return losses.contrastive(features, targets, texts, self._scale)
        return losses.cross_entropy(self.logits(features, batch, texts), targets)

    def margins(self, features: Tensor, batch: Tensor, texts: Tensor) -> Tensor:
        """fp32 [B], log-odds by which the right label leads all that the image may be, as it will
        be judged; those that do not compete in training, too."""
        batch = batch.to(features.device)
        logits = losses.masked_logits(features, texts, self._allowed[batch], self._scale)
        return losses.margins(logits, self._targets[batch])

    def in_play(self, features: Tensor, batch: Tensor, texts: Tensor) -> Tensor:
        """long [K], the labels of which a step takes the gradient where the text tower moves.

        Those of the batch's own images, however many, and up to the configured number those that
        an image of the batch is nearest to. An in-batch loss knows no others than the former.
        """
        own: Tensor = torch.unique(self._targets[batch.to(features.device)])
        room = self._most_texts - own.numel()
        if self.name == "contrastive" or room <= 0:
            return own
        nearness = self.logits(features, batch, texts).amax(dim=0)  # [V]
        nearness[own] = -torch.inf
        found = nearness.topk(min(room, nearness.numel()))
        return torch.cat([own, found.indices[found.values > -torch.inf]])
