"""The vision tower as a function of its weights.

Works on a private copy of the modules that shares the encoder's parameters: calling it with other
weights swaps them inside the module for the moment, which a serving encoder must never see.

Legend: B images, S image side, E embedding width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from encoder.clip import Encoder

PREFIX = "visual."


class VisionFunction:
    """`vision(pixels, weights)`: unit features with the named weights in place of the encoder's."""

    def __init__(self, encoder: Encoder, *, precision: str) -> None:
        """precision "bf16": matrix products in bfloat16; "fp32": everything in fp32."""
        visual = encoder.model.visual
        assert isinstance(visual, torch.nn.Module)
        tensors = [*visual.parameters(), *visual.buffers()]
        half = any(each.dtype in (torch.float16, torch.bfloat16) for each in tensors)
        memo = {} if half else {id(each): each for each in tensors}
        self._visual = copy.deepcopy(visual, memo)
        if half:
            self._visual.float()
        self._encoder = encoder
        self._half = precision == "bf16"
        self.device = torch.device(encoder.device)

    def weight(self, name: str) -> Tensor:
        """The encoder's own weight, fp32, without gradient; `name` as in `visual.…`."""
        return self._visual.get_parameter(name.removeprefix(PREFIX)).detach()

    def __call__(self, pixels: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """uint8 [B, 3, S, S] -> fp32 unit features [B, E], differentiable in `weights`."""
        images = self._encoder.preprocessing.normalise(pixels.to(self.device)).float()
        swapped = {name.removeprefix(PREFIX): weight for name, weight in weights.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            features = functional_call(self._visual, swapped, (images,))
        pooled = features[0] if isinstance(features, tuple) else features
        return F.normalize(pooled.float(), dim=-1)
