"""The vision tower as a function of its weights.

Works on a private copy of the modules that shares the encoder's parameters: calling it with other
weights swaps them inside the module for the moment, which a serving encoder must never see.

Legend: B images, S image side, E embedding width, T tower tokens, W tower width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from encoder.clip import Encoder
from encoder.plain_attention import attend_plainly
from encoder.token_order import put_tokens_first
from encoder.vlm.reading import TowerReading, read_tokens


class VisionFunction:
    """`vision(pixels, weights)`: unit features with the named weights in place of the encoder's.
    Weights of the other tower may be among them; they are passed over.

    `tokens` is the same for the hidden tokens that a vision-language model reads.
    """

    def __init__(self, encoder: Encoder, *, precision: str) -> None:
        """precision "bf16": matrix products in bfloat16; "fp32": everything in fp32."""
        visual = encoder.model.get_submodule("visual")
        tensors = [*visual.parameters(), *visual.buffers()]
        half = any(each.dtype in (torch.float16, torch.bfloat16) for each in tensors)
        memo = {} if half else {id(each): each for each in tensors}
        self._tower = _Tower(copy.deepcopy(visual, memo))
        put_tokens_first(self._tower.visual)
        if half:
            self._tower.float()
        self._encoder = encoder
        self._half = precision == "bf16"
        self.device = torch.device(encoder.device)
        if self._half and self.device.type == "cpu":
            attend_plainly(self._tower.visual)

    def weight(self, name: str) -> Tensor:
        """The encoder's own weight, fp32, without gradient; `name` as in `visual.…`."""
        return self._tower.get_parameter(name).detach()

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in the precision of the training steps."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)

    def __call__(self, pixels: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """uint8 [B, 3, S, S] -> fp32 unit features [B, E], differentiable in `weights`."""
        features = self._call(pixels, weights, None)
        pooled = features[0] if isinstance(features, tuple) else features
        return F.normalize(pooled.float(), dim=-1)

    def tokens(
        self, pixels: Tensor, weights: Mapping[str, Tensor], reading: TowerReading
    ) -> Tensor:
        """uint8 [B, 3, S, S] of the reading's size -> fp32 [B, T, W], differentiable in `weights`;
        those that the reading does not see have no gradient."""
        tokens: Tensor = self._call(pixels, weights, reading)
        return tokens.float()

    def _call(
        self, pixels: Tensor, weights: Mapping[str, Tensor], reading: TowerReading | None
    ) -> Any:
        images = self._encoder.preprocessing.normalise(pixels.to(self.device)).float()
        own = {name: each for name, each in weights.items() if name.startswith("visual.")}
        with self.autocast():
            return functional_call(self._tower, own, (images, reading))


class _Tower(nn.Module):
    """Names the weights as the whole model does, and reads either end of the tower."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.train(visual.training)

    def forward(self, images: Tensor, reading: TowerReading | None) -> Any:
        if reading is None:
            return self.visual(images)
        return read_tokens(self.visual, images, reading)
