"""Backbones at random weights, without any download; a folder's encoder as it is.

Only the vision tower is real. The text tower has one layer of width eight: it is not edited, and
texts are random directions here. Parameters, FLOPs and memory are the vision tower's own.
"""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from encoder.clip import Encoder, adopt_model, load_encoder
from encoder.preprocessing import Preprocessing
from encoder.tower import view_tower
from encoder.weights import find_source, without_false_alarm

_CONTEXT = 8  # tokens
_TEXT: dict[str, int] = {
    "context_length": _CONTEXT,
    "vocab_size": 49_408,
    "width": 8,
    "heads": 1,
    "layers": 1,
}


def build_backbone(name: str, *, seed: int) -> Encoder:
    """An open_clip model by name, with random weights; or a folder (or `bundled`) with its own.

    Raises UnknownEncoder, UnknownTowerLayout, WeightsInvalid.
    """
    source = find_source(name, None, random_weights=True)
    if source.weights is not None:
        return load_encoder(name)
    torch.manual_seed(seed)
    model = _create(source.architecture, "cpu")
    return adopt_model(model, SimpleTokenizer(context_length=_CONTEXT), name=name)


def outline(name: str) -> Encoder:
    """Its architecture alone: on torch's meta device, which takes no memory, and without digests.

    Raises UnknownEncoder, UnknownTowerLayout.
    """
    source = find_source(name, None, random_weights=True)
    with torch.device("meta"):
        model = _create(source.architecture, "meta")
    return Encoder(
        model=model,
        name=name,
        pretrained=None,
        preprocessing=Preprocessing.from_open_clip(open_clip.get_model_preprocess_cfg(model)),
        tokenizer=SimpleTokenizer(context_length=_CONTEXT),
        tower=view_tower(model),
        base_digest="",
        text_digest="",
    )


def tower_weights(encoder: Encoder) -> dict[str, nn.Parameter]:
    """The vision tower's, by name."""
    named = encoder.model.named_parameters()
    return {name: weight for name, weight in named if name.startswith("visual.")}


def _create(architecture: str, device: str) -> nn.Module:
    create: Any = open_clip.create_model
    with without_false_alarm():
        model: nn.Module = create(
            architecture, load_weights=False, pretrained_text=False, device=device, text_cfg=_TEXT
        )
    return model
