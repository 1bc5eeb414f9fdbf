"""MiniGPT-v2: an EVA tower, four neighbouring tokens as one, and Llama 2 with a trained low rank.

The folder is a Llama's in Hugging Face's layout (Llama-2-7B-chat) and one `.pth` file beside it,
MiniGPT-v2's published checkpoint: `{"model": {"llama_proj.weight": …, "llama_model.base_model.
model.model.layers.0.self_attn.q_proj.lora_A.weight": …}}`. It exists in no safer format, so it is
unpickled by torch's restricted loader, which makes tensors and plain values and nothing else.

The tower (EVA01-g-14) is read before its last block, at 448 px with its 224 px positions
interpolated, without its class token. Surprises: the norm behind it (`ln_vision`) is not in the
checkpoint and was never trained, so it has no gain and no bias; images are squashed, not cropped.
A smaller model of this kind says its image size in config.json, `"emend": {"image_size": 56}`.

Legend: B images, T tower tokens, W tower width, D decoder width, r rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import Tensor, nn

from encoder.clip import Encoder, Precision
from encoder.memory import memory_watched
from encoder.tower import Tower
from encoder.vlm.decoder import DTYPES, build_llama, check_names, fill, refuse_names
from encoder.vlm.dialogue import MiniGptDialogue
from encoder.vlm.errors import TowerForeign, VlmInvalid
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.reading import TowerReading, patch_count, prefix_tokens, tower_width
from encoder.vlm.weight_files import COMPUTED, open_weights
from encoder.vlm.words import load_words

_NEIGHBOURS = 4  # tokens that become one
_IMAGE_SIZE = 448
_ALPHA = 16.0  # LoRA's; the checkpoint does not say it
_PUBLISHED = (1408, 40, "EVA01-g-14")  # width and depth of the published model's tower
_LORA = re.compile(
    r"llama_model\.base_model\.model\.(?P<module>model\.layers\.\d+\.self_attn\.[qv]_proj)"
    r"\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)
_STRANGER = re.compile(r"GLOBAL ([\w.]+)")
# What torch's restricted loader raises for files it will not or cannot read.
_UNREADABLE = (UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, OSError)


class MiniGptConnector(nn.Module):
    """A norm, then one linear layer over four neighbouring tokens side by side."""

    def __init__(self, width: int, decoder_width: int) -> None:
        super().__init__()
        self.ln_vision = nn.LayerNorm(width)
        self.llama_proj = nn.Linear(_NEIGHBOURS * width, decoder_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, W] to [B, T / 4, D]."""
        normed = self.ln_vision(tokens)
        found: Tensor = self.llama_proj(
            normed.reshape(len(tokens), -1, self.llama_proj.in_features)
        )
        return found


def load_minigpt(
    folder: Path,
    config: Mapping[str, Any],
    encoder: Encoder,
    *,
    device: str | torch.device,
    precision: Precision,
) -> VisionLanguageModel:
    """Raises VlmInvalid, VlmLibraryMissing, TowerForeign or OutOfMemory."""
    source = str(folder)
    with memory_watched(torch.device(device)):
        trained = read_checkpoint(find_checkpoint(folder))
        visual = encoder.model.get_submodule("visual")
        check_tower(visual, encoder.tower, encoder.name, trained)
        reading = minigpt_reading(config, visual, encoder.tower, source)
        decoder: Any = build_llama(config, source)
        with open_weights(folder) as weights:
            found = weights.renamed({n: n for n in weights.names if not n.endswith(COMPUTED)})
            check_names(decoder, found, source)
            fill(decoder, found, device=device, precision=precision)
        merge_low_rank(decoder, trained, source)
        connector = build_connector(trained, tower_width(visual), decoder, source)
        connector.to(device=device, dtype=DTYPES[precision])
    return VisionLanguageModel(
        name=folder.name,
        family="minigpt-v2",
        reading=reading,
        connector=connector,
        decoder=decoder,
        words=load_words(folder, rows=int(decoder.config.vocab_size)),
        dialogue=MiniGptDialogue(),
        context_length=int(decoder.config.max_position_embeddings),
        resize_mode="squash",
    )


def find_checkpoint(folder: Path) -> Path:
    """The folder's one `.pth` file. Raises VlmInvalid."""
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        reason = f"a Llama becomes MiniGPT-v2 by exactly one .pth checkpoint, it has {names}"
        raise VlmInvalid(str(folder), reason)
    return files[0]


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """What MiniGPT-v2 trained, by name; only tensors are ever unpickled. Raises VlmInvalid."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as cause:
        stranger = _STRANGER.search(str(cause))  # torch's own words advise to trust the file
        reason = f"it calls {stranger[1]}" if stranger else type(cause).__name__
        raise VlmInvalid(str(file), f"it cannot be read safely ({reason})") from cause
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(w, Tensor) for w in state.values()):
        raise VlmInvalid(str(file), "it is not {'model': {name: tensor}}")
    known = ("llama_proj.weight", "llama_proj.bias", "ln_vision.weight", "ln_vision.bias")
    unknown = [name for name in state if name not in known and not _LORA.fullmatch(str(name))]
    refuse_names("it has unknown weights", map(str, unknown), str(file))
    refuse_names("it lacks", {known[0], known[1]} - state.keys(), str(file))
    return cast("dict[str, Tensor]", state)


def check_tower(visual: nn.Module, tower: Tower, name: str, trained: Mapping[str, Tensor]) -> None:
    """Raise TowerForeign unless the projection was trained over a tower of this kind and size."""
    width = trained["llama_proj.weight"].shape[-1] // _NEIGHBOURS
    published = width == _PUBLISHED[0]
    expected = _PUBLISHED[2] if published else f"EVA of width {width}"
    fused = len(tower.blocks[0].attention) == 1  # EVA02's is split, and turns with the position
    if tower.layout != "TimmModel(Eva)" or not fused or prefix_tokens(visual) != 1:
        raise TowerForeign(expected, name, f"{tower.layout} is another kind of tower")
    if tower_width(visual) != width:
        raise TowerForeign(expected, name, f"its width is {tower_width(visual)}, expected {width}")
    depth = len(tower.blocks)
    if published and depth != _PUBLISHED[1]:
        raise TowerForeign(expected, name, f"it has {depth} blocks, expected {_PUBLISHED[1]}")


def minigpt_reading(
    config: Mapping[str, Any], visual: nn.Module, tower: Tower, source: str
) -> TowerReading:
    """Where this model reads the tower. Raises VlmInvalid."""
    size = config.get("emend", {}).get("image_size", _IMAGE_SIZE)
    if not isinstance(size, int) or not 0 < size <= 4 * _IMAGE_SIZE:
        raise VlmInvalid(source, f"its image size is {size!r}")
    patches = patch_count(visual, size)
    if not patches or patches % _NEIGHBOURS:
        raise VlmInvalid(source, f"{patches} patches of a {size} px image are not taken by fours")
    return TowerReading(len(tower.blocks) - 1, class_token=False, image_size=size)


def build_connector(
    trained: Mapping[str, Tensor], width: int, decoder: Any, source: str
) -> MiniGptConnector:
    """The connector with what was trained in it, frozen. Raises VlmInvalid."""
    connector = MiniGptConnector(width, int(decoder.config.hidden_size))
    own = {name: weight for name, weight in trained.items() if not _LORA.fullmatch(name)}
    for name, weight in own.items():
        expected = connector.get_parameter(name).shape
        if weight.shape != expected:
            reason = f"{name} has shape {list(weight.shape)}, expected {list(expected)}"
            raise VlmInvalid(source, reason)
    connector.load_state_dict(own, strict=False)  # what it lacks keeps its default: see above
    return connector.eval().requires_grad_(requires_grad=False)


def merge_low_rank(decoder: nn.Module, trained: Mapping[str, Tensor], source: str) -> None:
    """Put weight + alpha / r * B @ A in place of q_proj's and v_proj's weights in every layer.

    Raises VlmInvalid unless all of them, and no others, have an A [r, inputs] and a B [rows, r].
    """
    sides: dict[str, dict[str, Tensor]] = {name: {} for name in low_rank_modules(decoder)}
    for name, weight in trained.items():
        match = _LORA.fullmatch(name)
        if match is not None and match["module"] not in sides:
            raise VlmInvalid(source, f"{name} is for a layer that its Llama has not")
        if match is not None:
            sides[match["module"]][match["side"]] = weight
    missing = [f"{m}.lora_{side}" for m, found in sides.items() for side in {"A", "B"} - set(found)]
    refuse_names("its checkpoint lacks", missing, source)
    for module, found in sides.items():
        layer = cast(nn.Linear, decoder.get_submodule(module))
        down, up = found["A"].float(), found["B"].float()
        if (up.shape[0], down.shape[1]) != tuple(layer.weight.shape) or up.shape[1] != len(down):
            shapes = f"{list(down.shape)} and {list(up.shape)}"
            reason = f"{module} has shape {list(layer.weight.shape)}, its low rank {shapes}"
            raise VlmInvalid(source, reason)
        change = (_ALPHA / len(down) * (up @ down)).to(layer.weight.device)
        merged = (layer.weight.float() + change).to(layer.weight.dtype)
        layer.weight = nn.Parameter(merged, requires_grad=False)


def low_rank_modules(decoder: nn.Module) -> list[str]:
    """The linear layers that MiniGPT-v2 trains by low rank."""
    return [name for name, _ in decoder.named_modules() if name.endswith((".q_proj", ".v_proj"))]
