"""How many numbers LoRSU trains on real towers, beside the counts of its authors.

The models are on torch's meta device: real architectures without memory for their weights. The
authors count a low-rank pair over *all* rows of the packed q, k and v weight, though only the rows
of the selected heads ever change, and no biases; we train those rows only, hence fewer numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import open_clip
import pytest
import torch

from editing.methods import LorsuConfig
from editing.parametrize import parametrise
from editing.selection import Selection, select
from editing.vision import VisionFunction
from encoder.clip import Encoder
from encoder.tower import Block, view_tower
from tests.support.tiny_encoder import tiny_encoder

ATTENTION, FC1, PROJECTION = "attention", "fc1", "projection"


def meta_encoder(name: str) -> Encoder:
    with torch.device("meta"):
        model = open_clip.create_model(name, device="meta")
    return replace(tiny_encoder(), model=model, name=name, tower=view_tower(model))


def select_in(encoder: Encoder, block: Block, config: LorsuConfig) -> Selection:
    """What may move in one block, under gradients that are all equal and take no memory."""
    weights = dict(encoder.model.named_parameters())
    names = (*block.attention, *block.fc1)
    return select(
        replace(encoder.tower, blocks=(block,)),
        {name: torch.ones(()).expand(weights[name].shape) for name in names},
        heads=config.heads,
        fc1_fraction=config.fc1_fraction,
        code_parity=config.mode == "code-parity",
    )


def as_authors(encoder: Encoder, selection: Selection) -> Selection:
    """The same selection, counted as they count it."""
    weights = dict(encoder.model.named_parameters())
    rows = {name: torch.arange(weights[name].shape[0]) for name in selection.rows}
    return replace(selection, rows=rows, dense=())


def trained_numbers(
    encoder: Encoder, config: LorsuConfig, *, authors: bool = False
) -> Mapping[str, int]:
    """By kind of weight, over all blocks; the first block stands for every one."""
    selection = select_in(encoder, encoder.tower.blocks[0], config)
    assert len({shapes_in(encoder, block) for block in encoder.tower.blocks}) == 1
    if authors:
        selection = as_authors(encoder, selection)
    attention, fc1 = count(encoder, config, replace(selection, projection=None))
    projection, _ = count(encoder, config, Selection({}, {}, {}, projection=selection.projection))
    blocks = len(encoder.tower.blocks)
    return {ATTENTION: blocks * attention, FC1: blocks * fc1, PROJECTION: projection}


def shapes_in(encoder: Encoder, block: Block) -> tuple[torch.Size, ...]:
    weights = dict(encoder.model.named_parameters())
    return tuple(weights[name].shape for name in (*block.attention, *block.fc1))


def count(encoder: Encoder, config: LorsuConfig, selection: Selection) -> tuple[int, int]:
    """Numbers of everything dense, and of fc1 entries: their step sizes tell them apart."""
    edited = parametrise(
        VisionFunction(encoder, precision="fp32"),
        selection,
        rank=config.rank,
        scale=config.alpha / config.rank,
        rates=(1.0, 2.0),
        generator=torch.Generator().manual_seed(0),
    )
    numbers = {rate: sum(each.numel() for each in tensors) for tensors, rate in edited.groups()}
    return numbers.get(1.0, 0), numbers.get(2.0, 0)


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
    assert counts == {ATTENTION: 3_145_728, FC1: 5_033_160, PROJECTION: 0}
    assert sum(counts.values()) == 8_178_888


def test_the_codes_lorsu_on_the_large_tower(large: Encoder) -> None:
    counts = trained_numbers(large, LorsuConfig.code_parity(), authors=True)
    assert counts == {ATTENTION: 6_291_456, FC1: 10_066_320, PROJECTION: 114_688}
    assert sum(counts.values()) == 16_472_464


def test_the_papers_lorsu_on_the_giant_tower(giant: Encoder) -> None:
    counts = trained_numbers(giant, LorsuConfig(rank=32, heads=2, fc1_fraction=0.05), authors=True)
    assert round(sum(counts.values()) / 1e6, 1) == 24.5


def test_ours_has_numbers_for_the_rows_of_the_selected_heads_only(large: Encoder) -> None:
    counts = trained_numbers(large, LorsuConfig())
    rows, inputs, rank = 2 * 64 * 3, 1024, 32
    assert counts == {ATTENTION: 24 * rank * (rows + inputs), FC1: 5_033_160, PROJECTION: 0}
    assert sum(counts.values()) == 6_114_504
