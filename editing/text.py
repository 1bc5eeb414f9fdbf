"""The text tower as a function of its weights, the counterpart of `editing.vision`.

Surprise: open_clip's CLIP has no module for its text tower, it is one; so the private copy is of
the whole model, without the vision tower.

Legend: P texts, L tokens of one, E embedding width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from encoder.clip import Encoder
from encoder.tower import view_text_tower


class TextFunction:
    """`text(tokens, weights)`: unit features with the named weights in place of the encoder's.

    Weights of the other tower may be among them; they are passed over.
    """

    def __init__(self, encoder: Encoder, *, precision: str) -> None:
        """precision "bf16": matrix products in bfloat16; "fp32": everything in fp32.

        Raises UnknownTowerLayout.
        """
        self.weights = frozenset(view_text_tower(encoder.model).weights)
        model = encoder.model
        named = dict(model.named_parameters())
        tensors = [*(named[name] for name in self.weights), *model.buffers()]
        half = any(each.dtype in (torch.float16, torch.bfloat16) for each in tensors)
        memo: dict[int, Any] = {} if half else {id(each): each for each in tensors}
        memo[id(model.get_submodule("visual"))] = nn.Identity()
        self._texts = _Texts(copy.deepcopy(model, memo))
        if half:
            self._texts.float()
        self._half = precision == "bf16"
        self.device = torch.device(encoder.device)

    def weight(self, name: str) -> Tensor:
        """The encoder's own weight, fp32, without gradient; named as in the whole model."""
        return self._texts.model.get_parameter(name).detach()

    def __call__(self, tokens: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """long [P, L] -> fp32 unit features [P, E], differentiable in `weights`."""
        own = {f"model.{name}": each for name, each in weights.items() if name in self.weights}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            features: Tensor = functional_call(self._texts, own, (tokens.to(self.device),))
        return F.normalize(features.float(), dim=-1)


class _Texts(nn.Module):
    """Calls what reads texts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, tokens: Tensor) -> Any:
        model: Any = self.model
        return model.encode_text(tokens)
