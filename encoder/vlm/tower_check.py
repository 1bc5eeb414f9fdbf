"""Is the served encoder the one that a vision-language model was made for?

A folder with a tower is compared weight by weight, as far as the coarser of the two precisions can
tell; one without says the base digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoder.clip import Encoder
from encoder.vlm.decoder import refuse_names
from encoder.vlm.errors import NamesUnmappable, TowerForeign, VlmInvalid
from encoder.vlm.hf_names import hf_config, hf_state
from encoder.vlm.weight_files import Weights

# What leaves no trace in the weights, and what transformers takes where a configuration is silent.
_TRACELESS = {"hidden_act": "quick_gelu", "num_attention_heads": 12, "layer_norm_eps": 1e-05}
# Left out by some files, since LLaVA reads the tower before it.
_UNREAD = ("post_layernorm.",)
_SMALLEST = 2.0**-24  # below it, half precision tells nothing apart


def check_weights(
    tower: Weights, config: Mapping[str, Any], encoder: Encoder, folder: Path
) -> None:
    """Compare the folder's tower (names as in CLIPVisionModel) with the base encoder's.

    Raises TowerForeign, or VlmInvalid when a part of the tower is missing.
    """
    described = config.get("vision_config", {})
    theirs = _tower_name(described, folder)
    try:
        ours, state = hf_config(encoder), hf_state(encoder)
    except NamesUnmappable as cause:
        raise TowerForeign(theirs, encoder.name, str(cause)) from cause
    for fact, silent in _TRACELESS.items():
        expected = described.get(fact, silent)
        if expected != ours[fact]:
            reason = f"{fact} is {ours[fact]!r}, expected {expected!r}"
            raise TowerForeign(theirs, encoder.name, reason)
    strangers = sorted(tower.names - state.keys())
    if strangers:
        raise TowerForeign(theirs, encoder.name, f"it has no {strangers[0]}")
    missing = {name for name in state.keys() - tower.names if not name.startswith(_UNREAD)}
    refuse_names("its tower lacks", missing, str(folder))
    for name in sorted(tower.names):
        if tower.shape(name) != tuple(state[name].shape):
            reason = f"{name} is {list(state[name].shape)}, expected {list(tower.shape(name))}"
            raise TowerForeign(theirs, encoder.name, reason)
        if not _agree(tower[name], state[name]):
            raise TowerForeign(theirs, encoder.name, f"{name} has other values")


def check_digest(config: Mapping[str, Any], encoder: Encoder, folder: Path) -> None:
    """Compare the base digest in the configuration with the encoder's.

    Raises TowerForeign, or VlmInvalid when there is none.
    """
    try:
        facts = config["emend"]["tower"]
        name, stated = str(facts["name"]), facts["base_digest"]
        digests = [stated] if isinstance(stated, str) else list(stated)
    except (KeyError, TypeError) as cause:
        reason = "it has neither a tower nor `emend.tower` in its config.json"
        raise VlmInvalid(str(folder), reason) from cause
    if encoder.base_digest not in digests:
        reason = (
            f"its base digest is {encoder.base_digest}, expected {' or '.join(map(str, digests))}"
        )
        raise TowerForeign(name, encoder.name, reason)


def _agree(stored: Tensor, served: Tensor) -> bool:
    """Equal up to the rounding of the coarser of both precisions."""
    step = max(torch.finfo(stored.dtype).eps, torch.finfo(served.dtype).eps)
    ours, theirs = served.detach().float().cpu(), stored.float()
    return bool(((ours - theirs).abs() <= step * theirs.abs() + _SMALLEST).all())


def _tower_name(described: Mapping[str, Any], folder: Path) -> str:
    if described.get("_name_or_path"):
        return str(described["_name_or_path"])
    size = [str(described.get(key, "?")) for key in ("num_hidden_layers", "hidden_size")]
    return f"CLIP ViT of {size[0]} blocks, width {size[1]}, in {folder.name}"
