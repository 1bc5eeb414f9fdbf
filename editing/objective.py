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
        allowed = task.allowed
        if config.negatives == "job":
            allowed = job_negatives(encoder, task)
        if self.name == "cross-entropy" and int(allowed.sum(dim=1).max()) < 2:
            raise VanishingGradient(self.name, "no label competes with the right ones")
        self._allowed = allowed.to(device)

    def logits(self, features: Tensor, batch: Tensor, texts: Tensor) -> Tensor:
        """fp32 [B, V] for unit features [B, E] of the task's images at positions `batch` [B]."""
        batch = batch.to(features.device)
        return losses.masked_logits(features, texts, self._allowed[batch], self._scale)

    def loss(self, features: Tensor, batch: Tensor, texts: Tensor) -> Tensor:
        """Mean over the batch. Raises VanishingGradient (contrastive only)."""
        targets = self._targets[batch.to(features.device)]
        if self.name == "contrastive":
            return losses.contrastive(features, targets, texts, self._scale)
        return losses.cross_entropy(self.logits(features, batch, texts), targets)

    def margins(self, features: Tensor, batch: Tensor, texts: Tensor) -> Tensor:
        """fp32 [B], log-odds by which the right label leads."""
        targets = self._targets[batch.to(features.device)]
        return losses.margins(self.logits(features, batch, texts), targets)

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


def job_negatives(encoder: Encoder, task: EditTask) -> Tensor:
    """bool [N, V]: of what is allowed, only the job's own labels and the encoder's present answers.

    Without replay, pushing away labels that the job does not teach undoes what earlier jobs taught.
    """
    features = encoder.embed_images(task.pixels).cpu()
    logits = losses.masked_logits(features, task.text_features, task.allowed, encoder.logit_scale)
    involved = torch.zeros(task.text_features.shape[0], dtype=torch.bool)
    involved[task.targets] = True
    involved[logits.argmax(dim=1)] = True
    return task.allowed & involved
