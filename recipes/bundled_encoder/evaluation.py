"""Zero-shot accuracy, and the best temperature.

Legend: N photos, C classes, D features (192), S pixels a side (64).
"""

import math
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.bundled_encoder.student import normalise

_BATCH = 100


@dataclass(frozen=True)
class Accuracy:
    """Share of photos, in percent, whose class is first, or among the first five."""

    top1: float
    top5: float


def score(features: Tensor, rows: Tensor, labels: Tensor) -> Accuracy:
    """Accuracy of features [N, D] classified by rows [C, D], with true classes [N]."""
    ranked = (features @ rows.T).topk(min(5, len(rows)), dim=-1).indices  # [N, 5]
    hits = ranked == labels[:, None]
    return Accuracy(
        top1=100 * float(hits[:, 0].float().mean()), top5=100 * float(hits.any(1).float().mean())
    )


@torch.no_grad()
def embed_photos(model: open_clip.CLIP, pixels: Tensor) -> Tensor:
    """Normalised features [N, D] of photos [N, 3, S, S] uint8, by the model's own forward, fp32."""
    parts = torch.split(pixels, _BATCH)
    encoded = [model.encode_image(normalise(part.float() / 255)) for part in parts]
    return F.normalize(torch.cat(encoded), dim=-1)


def best_logit_scale(features: Tensor, rows: Tensor, labels: Tensor) -> float:
    """The logarithm of the temperature under which the true classes [N] are most likely.

    Searched in steps of 1 % between 5 and 100.
    """
    cosines = features @ rows.T
    candidates = torch.arange(math.log(5.0), math.log(100.0), 0.01)
    losses = torch.stack([F.cross_entropy(cosines * value.exp(), labels) for value in candidates])
    return float(candidates[losses.argmin()])
