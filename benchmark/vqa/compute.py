"""What one training image costs: tuning the encoder against tuning the language model.

Counted, not estimated: forward and backward run under torch's FlopCounterMode, on the meta device
for models that are too large to build here. It counts matrix products, convolutions and attention,
a multiplication with its addition as two. Gradients of weights are counted as the editing code
computes them: in full where a mask or a low-rank factor then takes its part.

Legend: S image side, T image tokens, L tokens of prompt and answer, D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import open_clip
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from editing.selection import entry_budget
from encoder.tower import Tower, view_tower

RANK = 32  # v1's, of LoRA and LoRSU
HEADS = 2  # v1's, of LoRSU
LORSU_FRACTION, SPU_FRACTION = 0.05, 0.10  # of each fc1
_DECODER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Geometry:
    """A VLM by its parts: an open_clip tower's name and a Llama configuration."""

    title: str
    tower: str
    blocks_read: int
    decoder: dict[str, Any]
    text_tokens: int
    """of the question and the answer"""


LLAVA_7B = Geometry(
    title="CLIP ViT-L/14-336 and Vicuna-7B (LLaVA-1.5)",
    tower="ViT-L-14-336",
    blocks_read=23,
    decoder={
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32064,
    },
    text_tokens=64,
)


@dataclass(frozen=True)
class Price:
    """One way of tuning: numbers that are trained, FLOPs of one image's forward and backward."""

    title: str
    parameters: int
    flops: int


def prices(geometry: Geometry) -> list[Price]:
    """Every way of tuning a VLM of this geometry, on the meta device."""
    with torch.device("meta"):
        model = open_clip.create_model(geometry.tower, pretrained=None, device="meta")
    tower, visual = view_tower(model), cast(nn.Module, model.visual)
    decoder = _decoder(geometry)
    return [
        *_encoder_prices(model, tower, visual),
        *_decoder_prices(geometry, visual, decoder),
    ]


def count_flops(step: Callable[[], Tensor]) -> int:
    """FLOPs of computing `step` and of the backward pass from the sum of what it gives."""
    with FlopCounterMode(display=False) as counter:
        found = step()
        if found.requires_grad:
            torch.autograd.backward(found.sum())
    return int(counter.get_total_flops())


def lorsu_parameters(tower: Tower, shapes: dict[str, tuple[int, ...]]) -> int:
    """Numbers that LoRSU trains with v1's settings: low-rank factors and fc1 entries."""
    found = 0
    for block in tower.blocks:
        for name, rows in block.head_rows(range(min(HEADS, block.heads))).items():
            found += RANK * (len(rows) + shapes[name][1])
        found += _entries(block.fc1, shapes, LORSU_FRACTION)
    return found


def _encoder_prices(model: nn.Module, tower: Tower, visual: nn.Module) -> list[Price]:
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    attention = [name for block in tower.blocks for name in block.attention]
    fc1 = [name for block in tower.blocks for name in block.fc1]
    biases = [name for block in tower.blocks for name in block.fc1_biases]
    projection = [] if tower.projection is None else [tower.projection]
    everything = [name for name in shapes if name.startswith("visual.")]
    norms = [name for name in everything if ".ln_" in name]
    linears = [n for n in everything if len(shapes[n]) == 2 and "embedding" not in n]

    def price(title: str, names: Sequence[str], parameters: int) -> Price:
        return Price(title, parameters, _tower_flops(model, visual, names))

    spu = sum(_entries(block.fc1, shapes, SPU_FRACTION) for block in tower.blocks)
    return [
        price("encoder, LoRSU", [*attention, *fc1], lorsu_parameters(tower, shapes)),
        price(
            "encoder, SPU",
            [*fc1, *biases, *projection],
            spu + _size(shapes, biases) + _size(shapes, projection),
        ),
        price("encoder, LN", norms, _size(shapes, norms)),
        price("encoder, LoRA", linears, sum(RANK * sum(shapes[n]) for n in linears)),
        price("encoder, F-FT", everything, _size(shapes, everything)),
    ]


def _tower_flops(model: nn.Module, visual: nn.Module, names: Sequence[str]) -> int:
    """One image through the tower and back to the weights of these names."""
    wanted = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)
    images = torch.empty(1, 3, *_size_of(visual), device="meta")
    return count_flops(lambda: cast(Tensor, visual(images)))


def _decoder_prices(geometry: Geometry, visual: nn.Module, decoder: nn.Module) -> list[Price]:
    visual.requires_grad_(requires_grad=False)
    images = torch.empty(1, 3, *_size_of(visual), device="meta")
    reading = count_flops(lambda: cast(Tensor, visual(images)))
    linears = [
        module
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in _DECODER_LINEARS
    ]
    tokens = _image_tokens(visual) + geometry.text_tokens
    pairs = sum(RANK * (each.in_features + each.out_features) for each in linears)
    total = sum(parameter.numel() for parameter in decoder.parameters())
    # The pairs' own products: forward, and backward to inputs and to factors.
    lora = _decoder_flops(decoder, tokens, tuned=False) + 3 * 2 * tokens * pairs
    full = _decoder_flops(decoder, tokens, tuned=True)
    return [
        Price("language model, LoRA", pairs, reading + lora),
        Price("language model, full fine-tuning", total, reading + full),
    ]


def _decoder_flops(decoder: nn.Module, tokens: int, *, tuned: bool) -> int:
    """One sequence forward, and back to every weight, or (not `tuned`) through every layer only."""
    decoder.requires_grad_(requires_grad=tuned)
    width = cast(Any, decoder).config.hidden_size
    embeddings = torch.empty(1, tokens, width, device="meta", requires_grad=True)
    mask = torch.empty(1, 1, tokens, tokens, device="meta")  # made there, it would be looked into

    def step() -> Tensor:
        found = cast(Any, decoder)(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)
        return cast(Tensor, found.logits)

    return count_flops(step)


def _decoder(geometry: Geometry) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        decoder: nn.Module = LlamaForCausalLM(
            LlamaConfig(**{**geometry.decoder, "attn_implementation": "eager"})
        )
    return decoder.eval()


def _image_tokens(visual: nn.Module) -> int:
    grid = cast(Any, visual).grid_size
    return int(grid[0] * grid[1])


def _size_of(visual: nn.Module) -> tuple[int, int]:
    height, width = cast(Any, visual).image_size
    return int(height), int(width)


def _entries(names: Sequence[str], shapes: dict[str, tuple[int, ...]], fraction: float) -> int:
    return sum(entry_budget(shapes[name][0] * shapes[name][1], fraction) for name in names)


def _size(shapes: dict[str, tuple[int, ...]], names: Sequence[str]) -> int:
    return sum(torch.Size(shapes[name]).numel() for name in names)
