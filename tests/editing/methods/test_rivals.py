"""What each rival of LoRSU moves, and in which form."""

from __future__ import annotations

import pytest
import torch

from editing.methods import fit
from encoder.clip import Encoder
from encoder.deltas import Delta, Dense, LowRank, Sparse
from tests.support.edit_task import edit_task, quick_method
from tests.support.tiny_encoder import LAYOUTS, tiny_encoder

EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)


def moved_by(encoder: Encoder, method: str, **changes: object) -> dict[str, Delta]:
    config = quick_method(method, epochs=1, **changes)
    return fit(encoder, edit_task([0, 1, 2, 3]), config, seed=0).deltas


@EVERY_LAYOUT
def test_full_finetuning_moves_the_whole_tower_and_nothing_else(layout: str) -> None:
    encoder = tiny_encoder(layout)
    deltas = moved_by(encoder, "full_finetune")
    named = dict(encoder.model.named_parameters())
    assert deltas.keys() == {name for name in named if name.startswith("visual.")}
    assert all(isinstance(delta, Dense) for delta in deltas.values())


@EVERY_LAYOUT
def test_layernorm_tuning_moves_gains_and_biases_of_norms(layout: str) -> None:
    encoder = tiny_encoder(layout)
    deltas = moved_by(encoder, "layernorm")
    assert all(isinstance(delta, Dense) for delta in deltas.values())
    for block in encoder.tower.blocks:
        path = block.fc1[0].rsplit(".mlp.", 1)[0]
        names = ("ln_1", "ln_2") if layout == "open_clip" else ("norm1", "norm2")
        expected = {f"{path}.{name}.{part}" for name in names for part in ("weight", "bias")}
        assert expected <= deltas.keys()
    assert all("ln" in name or "norm" in name for name in deltas)


@EVERY_LAYOUT
def test_lora_moves_every_linear_by_low_rank(layout: str) -> None:
    encoder = tiny_encoder(layout)
    deltas = moved_by(encoder, "lora", rank=3, alpha=6)
    for delta in deltas.values():
        assert isinstance(delta, LowRank)
        assert (delta.rows, delta.scale) == (None, 2)
        assert delta.down.shape[0] == delta.up.shape[1] == 3
    for block in encoder.tower.blocks:
        assert {*block.attention, *block.fc1} <= deltas.keys()
    if encoder.tower.projection is not None:
        assert encoder.tower.projection in deltas
    embeddings = ("conv1", "patch_embed", "pos_embed", "positional_embedding", "class_embedding")
    assert not any(part in name for name in deltas for part in embeddings)


def test_loras_linears_of_open_clips_own_tower() -> None:
    per_block = (
        "attn.in_proj_weight",
        "attn.out_proj.weight",
        "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    )
    assert moved_by(tiny_encoder(), "lora").keys() == {
        "visual.proj",
        *(f"visual.transformer.resblocks.{i}.{name}" for i in range(2) for name in per_block),
    }


@EVERY_LAYOUT
def test_spu_moves_a_part_of_fc1_its_biases_and_the_projection(layout: str) -> None:
    encoder = tiny_encoder(layout)
    deltas = moved_by(encoder, "spu", fc1_fraction=0.1)
    for block in encoder.tower.blocks:
        for name in block.fc1:
            delta = deltas.pop(name)
            assert isinstance(delta, Sparse)
            assert delta.values.numel() == int(delta.mask.numel() * 0.1)
        for name in block.fc1_biases:
            assert isinstance(deltas.pop(name), Dense)
    rest = () if encoder.tower.projection is None else (encoder.tower.projection,)
    assert tuple(deltas) == rest
    assert all(isinstance(delta, Dense) for delta in deltas.values())


def test_spu_chooses_the_entries_of_strongest_mean_gradient() -> None:
    encoder = tiny_encoder()
    task = edit_task([0, 1, 2, 3])
    few, many = (
        fit(encoder, task, quick_method("spu", epochs=0, fc1_fraction=part), seed=0).selection
        for part in (0.05, 0.2)
    )
    for name, mask in few.masks.items():
        assert int(mask.sum()) < int(many.masks[name].sum())
        assert torch.equal(mask & many.masks[name], mask)
