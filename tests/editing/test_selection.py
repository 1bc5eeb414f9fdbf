from __future__ import annotations

import pytest
import torch
from torch import Tensor

from editing.selection import entry_budget, select, top_entries
from encoder.clip import Encoder
from tests.support.tiny_encoder import LAYOUTS, tiny_encoder


def random_gradients(encoder: Encoder, *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = dict(encoder.model.named_parameters())
    names = [n for block in encoder.tower.blocks for n in (*block.attention, *block.fc1)]
    return {name: torch.randn(weights[name].shape, generator=generator) for name in names}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_heads_compete_within_their_block_only(layout: str) -> None:
    encoder = tiny_encoder(layout)
    gradients = random_gradients(encoder)
    for name in encoder.tower.blocks[0].attention:
        gradients[name] *= 1000
    selection = select(encoder.tower, gradients, heads=1, fc1_fraction=0.05)
    assert {block: len(heads) for block, heads in selection.heads.items()} == {0: 1, 1: 1}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_heads_of_strongest_gradient_are_chosen_with_all_their_rows(layout: str) -> None:
    encoder = tiny_encoder(layout)
    gradients = random_gradients(encoder)
    block = encoder.tower.blocks[1]
    for name, rows in block.head_rows([1]).items():
        gradients[name][rows] *= 3
    selection = select(encoder.tower, gradients, heads=1, fc1_fraction=0.05)
    assert selection.heads[1] == (1,)
    for name, rows in block.head_rows([1]).items():
        chosen = selection.rows[name]
        assert chosen is not None
        assert torch.equal(chosen, rows)


def test_more_heads_than_there_are_means_all() -> None:
    encoder = tiny_encoder()
    heads = encoder.tower.blocks[0].heads
    selection = select(encoder.tower, random_gradients(encoder), heads=99, fc1_fraction=0.05)
    assert selection.heads[0] == tuple(range(heads))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fc1_entries_compete_within_their_tensor_only(layout: str) -> None:
    encoder = tiny_encoder(layout)
    gradients = random_gradients(encoder)
    names = [name for block in encoder.tower.blocks for name in block.fc1]
    gradients[names[0]] *= 1000
    masks = select(encoder.tower, gradients, heads=1, fc1_fraction=0.1).masks
    assert list(masks) == names
    for name in names:
        assert int(masks[name].sum()) == int(gradients[name].numel() * 0.1)


def test_entries_are_ranked_by_size_whatever_their_sign() -> None:
    gradient = torch.tensor([[0.1, -9.0, 2.0], [-3.0, 0.0, 1.0]])
    chosen = top_entries(gradient, 0.5)
    assert chosen.tolist() == [[False, True, True], [True, False, False]]


def test_budgets_of_vit_l_14_are_the_papers() -> None:
    assert 24 * entry_budget(4096 * 1024, 0.05) == 5_033_160
    assert 24 * entry_budget(4096 * 1024, 0.10) == 10_066_320
    assert entry_budget(3, 0.05) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strict_mode_leaves_biases_and_projection_alone(layout: str) -> None:
    encoder = tiny_encoder(layout)
    gradients = random_gradients(encoder)
    strict = select(encoder.tower, gradients, heads=1, fc1_fraction=0.1)
    parity = select(encoder.tower, gradients, heads=1, fc1_fraction=0.1, code_parity=True)
    assert strict.dense == ()
    added = parity.rows.keys() - strict.rows.keys()
    assert added == {encoder.tower.projection} - {None}
    assert all(parity.rows[name] is None for name in added)
    assert len(parity.dense) == sum(
        len(block.attention_biases) + len(block.fc1_biases) for block in encoder.tower.blocks
    )
    assert parity.heads == strict.heads
