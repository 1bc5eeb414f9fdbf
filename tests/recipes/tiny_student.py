"""A student of two narrow layers, and random directions in place of a teacher's features."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.bundled_encoder.student import MODEL_CONFIG

CLASSES, PER_CLASS, FEATURES, MAP = 4, 6, 192, 14

TINY_CONFIG: dict[str, Any] = MODEL_CONFIG | {
    "vision_cfg": MODEL_CONFIG["vision_cfg"] | {"layers": 2, "width": 64},
    "text_cfg": MODEL_CONFIG["text_cfg"] | {"layers": 1, "width": 32, "heads": 2},
}


def unit_rows(count: int, seed: int) -> Tensor:
    """Random directions [count, 192]."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, FEATURES, generator=generator), dim=-1)
