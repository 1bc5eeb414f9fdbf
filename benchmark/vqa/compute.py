"""What one training image costs: tuning the encoder against tuning the language model.

Counted, not estimated: forward and backward run under torch's FlopCounterMode, on the meta device
for models that are too large to build here. It counts matrix products, convolutions and attention,
a multiplication with its addition as two. Gradients of weights are counted as the editing code
computes them: in full where a mask or a low-rank factor then takes its part.

Legend: S image side, T image tokens, L tokens of prompt and answer, D decoder width.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from editing.methods import LorsuConfig
from editing.selection import entry_budget
from encoder.clip import Encoder, load_encoder
from encoder.tower import Tower, view_tower
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel

RANK = 32  # v1's, of LoRA and LoRSU
HEADS = int(LorsuConfig.PAPER["heads"])
LORSU_FRACTION, SPU_FRACTION = LorsuConfig.PAPER["fc1_fraction"], 0.10  # of each fc1
_DECODER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TEXT_TOKENS = 64  # of a question with its options, and the answer
VICUNA_7B: Mapping[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32064,
}


@dataclass(frozen=True)
class Price:
    """One way of tuning: numbers that are trained, FLOPs of one image's forward and backward."""

    title: str
    parameters: int
    flops: int


def prices(model: nn.Module, decoder: nn.Module, *, tokens: int) -> list[Price]:
    """Every way of tuning a VLM: an open_clip model's tower, a causal language model with attention
    "eager", L `tokens` of image, question and answer together. All on the meta device."""
    tower, visual = view_tower(model), model.get_submodule("visual")
    return [
        *_encoder_prices(model, tower, visual),
        *_decoder_prices(visual, decoder, tokens),
    ]


def llava_7b() -> list[Price]:
    """CLIP ViT-L/14-336 and Vicuna-7B, as LLaVA-1.5 has them: 576 image tokens."""
    with torch.device("meta"):
        model = open_clip.create_model("ViT-L-14-336", device="meta")
    return prices(model, meta_llama(VICUNA_7B), tokens=576 + TEXT_TOKENS)


def of_vlm(base: Encoder, vlm: VisionLanguageModel) -> list[Price]:
    """A VLM over an encoder of open_clip's own layout, both as they are loaded."""
    model = copy.deepcopy(base.model).to("meta")
    config = cast(Any, vlm.decoder).config.to_dict()
    side = base.preprocessing.image_size
    blank = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    image_tokens = vlm.image_tokens(base, blank).shape[1]
    return prices(model, meta_llama(config), tokens=image_tokens + TEXT_TOKENS)


def meta_llama(config: Mapping[str, Any]) -> nn.Module:
    """A Llama of this configuration without weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        decoder: nn.Module = LlamaForCausalLM(
            LlamaConfig(**{**config, "attn_implementation": "eager"})
        )
    return decoder.eval()


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


def _decoder_prices(visual: nn.Module, decoder: nn.Module, tokens: int) -> list[Price]:
    visual.requires_grad_(requires_grad=False)
    images = torch.empty(1, 3, *_size_of(visual), device="meta")
    reading = count_flops(lambda: cast(Tensor, visual(images)))
    linears = [
        module
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in _DECODER_LINEARS
    ]
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


def _size_of(visual: nn.Module) -> tuple[int, int]:
    height, width = cast(Any, visual).image_size
    return int(height), int(width)


def _entries(names: Sequence[str], shapes: dict[str, tuple[int, ...]], fraction: float) -> int:
    return sum(entry_budget(shapes[name][0] * shapes[name][1], fraction) for name in names)


def _size(shapes: dict[str, tuple[int, ...]], names: Sequence[str]) -> int:
    return sum(torch.Size(shapes[name]).numel() for name in names)


def markdown(found: Sequence[Price]) -> str:
    """A table; the last column compares with the first row."""
    lines = ["| tuned | numbers trained | GFLOP an image | times LoRSU's |", "|---|---|---|---|"]
    lines += [
        f"| {each.title} | {each.parameters:,} | {each.flops / 1e9:,.1f} "
        f"| {each.flops / found[0].flops:.1f} |"
        for each in found
    ]
    return "\n".join(lines)


def main() -> None:
    """``python -m benchmark.vqa.compute``: LLaVA-1.5's geometry, or that of a VLM at hand."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.vqa.compute", description=__doc__)
    parser.add_argument("--encoder", help="as EMEND_ENCODER")
    parser.add_argument("--vlm", type=Path, help="folder of a VLM over it")
    options = parser.parse_args()
    if options.encoder is None or options.vlm is None:
        print(markdown(llava_7b()))
        return
    base = load_encoder(options.encoder)
    print(markdown(of_vlm(base, load_vlm(str(options.vlm), base))))


if __name__ == "__main__":
    main()
