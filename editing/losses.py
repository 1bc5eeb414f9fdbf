"""What an edit minimises. Text features are frozen and cached; only images have gradients.

Legend: B images, V labels of the vocabulary, E embedding width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.errors import VanishingGradient


def masked_logits(features: Tensor, text_features: Tensor, allowed: Tensor, scale: float) -> Tensor:
    """fp32 [B, V]: scaled cosines, -inf where an image does not allow the label."""
    return (scale * features @ text_features.T).masked_fill(~allowed, -torch.inf)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch; logits [B, V], -inf for labels that are out of the question."""
    return F.cross_entropy(logits, targets)


def contrastive(features: Tensor, targets: Tensor, text_features: Tensor, scale: float) -> Tensor:
    """The paper's loss: every image against its batch's captions, and the other way round.

    Raises VanishingGradient for a batch of one image (its loss is always 0) and for one in which
    all captions are equal (no image can be told from another by its caption).
    """
    if targets.numel() < 2:
        raise VanishingGradient("contrastive", "a batch holds a single image")
    if torch.unique(targets).numel() < 2:
        raise VanishingGradient(
            "contrastive", "all images of a batch have the same label; use cross-entropy"
        )
    logits = scale * features @ text_features[targets].T  # [B, B]
    pairs = torch.arange(targets.numel(), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def guard(features: Tensor, frozen: Tensor) -> Tensor:
    """Mean squared distance on the sphere between unit features [B, E] and the frozen ones."""
    return (features - frozen).square().sum(dim=-1).mean()


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """fp32 [B]: by how much the right label leads the best of the others; inf with no other."""
    right = logits.gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], -torch.inf).amax(dim=1)
    return right - others
