"""Which labels an image is to be told from in training.

Legend: N images of the task, V labels of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from editing import losses
from editing.fewshot import EditTask
from encoder.clip import Encoder


def everything(_: Encoder, task: EditTask) -> Tensor:
    """bool [N, V]: all that is allowed."""
    return task.allowed


def own_labels(encoder: Encoder, task: EditTask) -> Tensor:
    """bool [N, V]: of what is allowed, the job's own labels; for an image that has no other among
    them, the strongest other one besides, without which there would be nothing to learn.

    Without replay, pushing away labels that the job does not teach undoes what earlier jobs taught.
    """
    competing = among(task, task.targets)
    alone = competing.sum(dim=1) < 2
    if alone.any():
        others = logits(encoder, task).scatter(1, task.targets[:, None], -torch.inf)
        rivals = torch.zeros_like(competing).scatter(1, others.argmax(dim=1, keepdim=True), True)
        competing |= rivals & task.allowed & alone[:, None]
    return competing


def among(task: EditTask, labels: Tensor) -> Tensor:
    """bool [N, V]: of what is allowed, these labels, long [...]."""
    involved = torch.zeros(task.text_features.shape[0], dtype=torch.bool)
    involved[labels] = True
    return task.allowed & involved


def logits(encoder: Encoder, task: EditTask) -> Tensor:
    """fp32 [N, V], of the encoder as it is; -inf for what is not allowed."""
    features = encoder.embed_images(task.pixels).cpu()
    return losses.masked_logits(features, task.text_features, task.allowed, encoder.logit_scale)


COMPETING: Mapping[str, Callable[[Encoder, EditTask], Tensor]] = {
    "vocabulary": everything,
    "own-labels": own_labels,
}
