"""LLaVA-1.5 from a folder in Hugging Face's layout, without its tower.

The tower's tokens come from the served encoder, so its copy in the folder is compared with the base
encoder's weights and dropped; only connector and decoder are built. Images are prepared as the
encoder does it, which is what the tower was trained with. Folders without a tower say in
`config.json` which encoder they were trained over:
`"emend": {"tower": {"name": …, "base_digest": …}, "short_answer": …}`. A base digest covers the
precision an encoder is loaded in; `base_digest` may be a list, one for each.

Surprise: names moved thrice. The hub's files say `language_model.model.layers`, transformers 5
began with `model.language_model.layers`, and its current release writes the hub's again, but leaves
out `vision_model.` in the tower; all are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoder.clip import Encoder, Precision
from encoder.memory import memory_watched
from encoder.vlm.decoder import build_activation, build_llama, check_names, fill, refuse_names
from encoder.vlm.dialogue import SHORT_ANSWER, LlavaDialogue
from encoder.vlm.errors import VlmInvalid
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.reading import TowerReading, prefix_tokens, tower_width
from encoder.vlm.tower_check import check_digest, check_weights
from encoder.vlm.weight_files import COMPUTED, open_weights
from encoder.vlm.words import load_words

_PLACES = (  # which part a name belongs to, and its own name there
    ("tower", re.compile(r"(?:model\.)?vision_tower\.(?:vision_model\.)?(.+)"), ""),
    ("connector", re.compile(r"(?:model\.)?multi_modal_projector\.(.+)"), ""),
    ("decoder", re.compile(r"(?:language_model\.)?(lm_head\..+)"), ""),
    ("decoder", re.compile(r"(?:language_model\.model|model\.language_model)\.(.+)"), "model."),
)


class LlavaConnector(nn.Module):
    """Two linear layers, token by token."""

    def __init__(self, widths: tuple[int, int], activation: nn.Module, *, bias: bool) -> None:
        """`widths`: of the tower and of the decoder."""
        super().__init__()
        self.linear_1 = nn.Linear(*widths, bias=bias)
        self.act = activation
        self.linear_2 = nn.Linear(widths[1], widths[1], bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, W] to [B, T, D]."""
        found: Tensor = self.linear_2(self.act(self.linear_1(tokens)))
        return found


def load_llava(
    folder: Path,
    config: Mapping[str, Any],
    encoder: Encoder,
    *,
    device: str | torch.device,
    precision: Precision,
) -> VisionLanguageModel:
    """Raises VlmInvalid, VlmLibraryMissing, TowerForeign or OutOfMemory."""
    source = str(folder)
    reading = llava_reading(config, encoder, source)
    with open_weights(folder) as weights, memory_watched(torch.device(device)):
        parts = sort_names(weights.names, source)
        if parts["tower"]:
            check_weights(weights.renamed(parts["tower"]), config, encoder, folder)
        else:
            check_digest(config, encoder, folder)
        connector, decoder = build_parts(config, encoder, source)
        if decoder.get_output_embeddings().weight is decoder.get_input_embeddings().weight:
            parts["decoder"].pop("lm_head.weight", None)
        for module, part in ((connector, "connector"), (decoder, "decoder")):
            found = weights.renamed(parts[part])
            check_names(module, found, source)
            fill(module, found, device=device, precision=precision)
    short_answer = config.get("emend", {}).get("short_answer", SHORT_ANSWER)
    return VisionLanguageModel(
        name=folder.name,
        family="llava",
        reading=reading,
        connector=connector,
        decoder=decoder,
        words=load_words(folder, rows=int(decoder.config.vocab_size)),
        dialogue=LlavaDialogue(str(short_answer)),
        context_length=int(decoder.config.max_position_embeddings),
    )


def llava_reading(config: Mapping[str, Any], encoder: Encoder, source: str) -> TowerReading:
    """Where this model reads the encoder's tower. Raises VlmInvalid."""
    depth = len(encoder.tower.blocks)
    layer = config.get("vision_feature_layer", -2)
    strategy = config.get("vision_feature_select_strategy", "default")
    if not isinstance(layer, int):
        raise VlmInvalid(source, f"it reads several layers of its tower, {layer}")
    if strategy not in ("default", "full"):
        raise VlmInvalid(source, f"it selects tokens by {strategy!r}, not 'default' or 'full'")
    blocks = layer if layer >= 0 else depth + 1 + layer  # -1: after the last block
    if not 1 <= blocks <= depth:
        raise VlmInvalid(source, f"its layer {layer} is none of a tower of {depth} blocks")
    prefix = prefix_tokens(encoder.model.get_submodule("visual"))
    return TowerReading(blocks, strategy == "full" and prefix > 0, encoder.preprocessing.image_size)


def build_parts(
    config: Mapping[str, Any], encoder: Encoder, source: str
) -> tuple[LlavaConnector, Any]:
    """Connector and decoder on the meta device. Raises VlmInvalid, VlmLibraryMissing."""
    decoder: Any = build_llama(config.get("text_config", {}), source)
    width = tower_width(encoder.model.get_submodule("visual"))
    widths = (width, int(decoder.config.hidden_size))
    activation = build_activation(str(config.get("projector_hidden_act", "gelu")), source)
    bias = bool(config.get("multimodal_projector_bias", True))
    with torch.device("meta"):
        return LlavaConnector(widths, activation, bias=bias), decoder


def sort_names(names: Iterable[str], source: str) -> dict[str, dict[str, str]]:
    """For tower, connector and decoder: a weight's own name there -> its name in the file.

    Raises VlmInvalid for names that belong to none of them.
    """
    parts: dict[str, dict[str, str]] = {"tower": {}, "connector": {}, "decoder": {}}
    unknown: list[str] = []
    for name in names:
        if name.endswith(COMPUTED):
            continue
        part, own = _place(name)
        if own is None:
            unknown.append(name)
        else:
            parts[part][own] = name
    refuse_names("it has unknown weights", unknown, source)
    return parts


def _place(name: str) -> tuple[str, str | None]:
    for part, pattern, prefix in _PLACES:
        found = pattern.fullmatch(name)
        if found is not None:
            return part, prefix + found[1]
    return "", None
