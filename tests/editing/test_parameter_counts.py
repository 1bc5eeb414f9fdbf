"""How many numbers each method trains on real towers, beside the counts of LoRSU's authors.

The models are on torch's meta device: real architectures without memory for their weights. The
authors count a low-rank pair over *all* rows of the packed q, k and v weight, though only the rows
of the selected heads ever change, and no biases; we train those rows only, hence fewer numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import open_clip
import pytest
import torch
from torch import Tensor

from editing.methods import (
    FullFinetuneConfig,
    LayerNormConfig,
    LoraConfig,
    LorsuConfig,
    MethodConfig,
    SpuConfig,
)
from editing.methods.fitting import Subject
from editing.parametrize import parametrise
from editing.selection import Selection
from editing.vision import VisionFunction
from encoder.clip import Encoder
from encoder.tower import Block, view_tower
from tests.support.tiny_encoder import tiny_encoder

REST, FC1, PROJECTION = "rest", "fc1", "projection"


def meta_encoder(name: str) -> Encoder:
    with torch.device("meta"):
        model = open_clip.create_model(name, device="meta")
    return replace(tiny_encoder(), model=model, name=name, tower=view_tower(model))


def select_in(encoder: Encoder, config: MethodConfig) -> Selection:
    """What may move, under gradients that are all equal and take no memory."""
    weights = dict(encoder.model.named_parameters())

    def gradients(names: Sequence[str]) -> Mapping[str, Tensor]:
        return {name: torch.ones(()).expand(weights[name].shape) for name in names}

    return config.select(Subject(encoder, gradients))


def as_authors(encoder: Encoder, selection: Selection) -> Selection:
    """The same selection, counted as they count it."""
    weights = dict(encoder.model.named_parameters())
    rows = {
        name: rows if rows is None else torch.arange(weights[name].shape[0])
        for name, rows in selection.rows.items()
    }
    return replace(selection, rows=rows, dense=())


def trained_numbers(
    encoder: Encoder, config: MethodConfig, *, authors: bool = False
) -> Mapping[str, int]:
    """By kind of weight, over all blocks; the first block stands for every one."""
    tower = encoder.tower
    assert len({shapes_in(encoder, block) for block in tower.blocks}) == 1
    first = replace(encoder, tower=replace(tower, blocks=tower.blocks[:1]))
    selection = select_in(first, config)
    if authors:
        selection = as_authors(encoder, selection)
    once = numbers(encoder, config, selection)
    outside = once.pop(tower.projection or "", 0)
    fc1 = sum(count for name, count in once.items() if name in selection.masks)
    blocks = len(tower.blocks)
    rest = sum(once.values()) - fc1
    return {REST: blocks * rest, FC1: blocks * fc1, PROJECTION: outside}


def shapes_in(encoder: Encoder, block: Block) -> tuple[torch.Size, ...]:
    weights = dict(encoder.model.named_parameters())
    return tuple(weights[name].shape for name in (*block.attention, *block.fc1))


def numbers(encoder: Encoder, config: MethodConfig, selection: Selection) -> dict[str, int]:
    """Trained numbers by weight name."""
    edited = parametrise(
        VisionFunction(encoder, precision="fp32").weight,
        selection,
        config.forms,
        generator=torch.Generator().manual_seed(0),
    )
    return edited.sizes()


def all_numbers(encoder: Encoder, config: MethodConfig) -> int:
    """Of a method that needs no gradients."""
    return sum(numbers(encoder, config, select_in(encoder, config)).values())


def visual_numbers(encoder: Encoder) -> int:
    named = encoder.model.named_parameters()
    return sum(weight.numel() for name, weight in named if name.startswith("visual."))


@pytest.fixture(scope="module")
def large() -> Encoder:
    return meta_encoder("ViT-L-14-336")


@pytest.fixture(scope="module")
def giant() -> Encoder:
    return meta_encoder("EVA01-g-14")


def test_the_vision_towers_are_as_large_as_the_papers_say(large: Encoder, giant: Encoder) -> None:
    assert visual_numbers(large) == 304_293_888
    assert visual_numbers(giant) == 1_012_588_928


def test_the_papers_lorsu_on_the_large_tower(large: Encoder) -> None:
    counts = trained_numbers(large, LorsuConfig(rank=32, heads=2, fc1_fraction=0.05), authors=True)
    assert counts == {REST: 3_145_728, FC1: 5_033_160, PROJECTION: 0}
    assert sum(counts.values()) == 8_178_888


def test_the_codes_lorsu_on_the_large_tower(large: Encoder) -> None:
    counts = trained_numbers(large, LorsuConfig.code_parity(), authors=True)
    assert counts == {REST: 6_291_456, FC1: 10_066_320, PROJECTION: 114_688}
    assert sum(counts.values()) == 16_472_464


def test_the_papers_lorsu_on_the_giant_tower(giant: Encoder) -> None:
    counts = trained_numbers(giant, LorsuConfig(rank=32, heads=2, fc1_fraction=0.05), authors=True)
    assert counts == {REST: 7_208_960, FC1: 17_301_480, PROJECTION: 0}
    assert round(sum(counts.values()) / 1e6, 1) == 24.5


def test_ours_has_numbers_for_the_rows_of_the_selected_heads_only(large: Encoder) -> None:
    counts = trained_numbers(large, LorsuConfig.model_validate(LorsuConfig.PAPER))
    rows, inputs, rank = 2 * 64 * 3, 1024, 32
    assert counts == {REST: 24 * rank * (rows + inputs), FC1: 5_033_160, PROJECTION: 0}
    assert sum(counts.values()) == 6_114_504


def test_our_default_moves_three_heads_a_block_and_a_tenth_of_fc1(large: Encoder) -> None:
    counts = trained_numbers(large, LorsuConfig())
    rows, inputs, rank = 3 * 64 * 3, 1024, 32
    assert counts == {REST: 24 * rank * (rows + inputs), FC1: 10_066_320, PROJECTION: 0}


def test_full_finetuning_trains_the_whole_tower(large: Encoder, giant: Encoder) -> None:
    assert all_numbers(large, FullFinetuneConfig()) == 304_293_888
    assert all_numbers(giant, FullFinetuneConfig()) == 1_012_588_928


def test_the_papers_layernorm_tuning_on_the_large_tower(large: Encoder, giant: Encoder) -> None:
    assert all_numbers(large, LayerNormConfig()) == 102_400
    assert all_numbers(giant, LayerNormConfig()) == (40 * 2 + 1) * 2 * 1408


def test_the_papers_lora_on_the_large_tower(large: Encoder) -> None:
    assert all_numbers(large, LoraConfig(rank=32)) == 12_640_256


def test_the_papers_lora_on_the_giant_tower(giant: Encoder) -> None:
    """Its 30.1 M are the blocks alone; ours moves open_clip's projection after them besides."""
    projection = 32 * (1408 + 1024)
    blocks = all_numbers(giant, LoraConfig(rank=32)) - projection
    assert blocks == 30_146_560
    assert round(blocks / 1e6, 1) == 30.1


def test_the_papers_spu(large: Encoder, giant: Encoder) -> None:
    """It counts fc1 entries alone; biases and projection, which the method moves, come on top."""
    counts = trained_numbers(large, SpuConfig(fc1_fraction=0.1))
    assert counts == {REST: 24 * 4096, FC1: 10_066_320, PROJECTION: 1024 * 768}
    counts = trained_numbers(giant, SpuConfig(fc1_fraction=0.1))
    assert round(counts[FC1] / 1e6, 1) == 34.6
    assert counts == {REST: 40 * 6144, FC1: 34_603_000, PROJECTION: 1408 * 1024}
