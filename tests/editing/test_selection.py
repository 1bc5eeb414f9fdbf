from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.selection import Selection, entry_budget, select, top_entries
from encoder.clip import Encoder
from encoder.tower import Block, Tower
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


shared_encoder = cache(tiny_encoder)

# Equation 10 and lemma 3.2: of all masks p under the same budget for each group, the chosen one
# keeps most of the gradient's norm, |p * g|.


def kept(gradients: Mapping[str, Tensor], selection: Selection) -> float:
    """Square of that norm."""
    total = sum(
        float(gradients[name][mask].square().sum()) for name, mask in selection.masks.items()
    )
    rows = ((gradients[name], rows) for name, rows in selection.rows.items() if rows is not None)
    return total + sum(float(gradient[chosen].square().sum()) for gradient, chosen in rows)


def tower_of(blocks: int, *, heads: int) -> Tower:
    """Of heads of width one."""
    parts = tuple(
        Block(index, heads, 1, (f"{index}.qkv",), (), (f"{index}.fc1",), ())
        for index in range(blocks)
    )
    return replace(shared_encoder("open_clip").tower, blocks=parts)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(-4, 4), min_size=12, max_size=12), min_size=1, max_size=3),
    st.integers(1, 3),
)
def test_no_choice_of_heads_keeps_more_of_the_gradient(blocks: list[list[int]], count: int) -> None:
    heads = 4
    gradients = {f"{i}.qkv": torch.tensor([b]).T.float() for i, b in enumerate(blocks)}  # [3H, 1]
    tower = tower_of(len(blocks), heads=heads)
    ours = select(tower, gradients, heads=count, fc1_fraction=1)
    best = max(
        sum(
            float(gradients[f"{index}.qkv"][part * heads + head]) ** 2
            for index, chosen in enumerate(choice)
            for head in chosen
            for part in range(3)
        )
        for choice in product(combinations(range(heads), count), repeat=len(blocks))
    )
    assert all(len(chosen) == count for chosen in ours.heads.values())
    assert kept(gradients, ours) == best


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=5), min_size=1, max_size=3),
    st.floats(0.05, 1),
)
def test_no_choice_of_entries_keeps_more_of_the_gradient(
    tensors: list[list[int]], fraction: float
) -> None:
    gradients = {f"{i}.fc1": torch.tensor([t]).float() for i, t in enumerate(tensors)}
    gradients |= {f"{i}.qkv": torch.zeros(3, 1) for i in range(len(tensors))}
    tower = tower_of(len(tensors), heads=1)
    ours = select(tower, gradients, heads=1, fc1_fraction=fraction)
    budgets = [max(1, int(len(tensor) * fraction)) for tensor in tensors]
    choices = [
        combinations(tensor, budget) for tensor, budget in zip(tensors, budgets, strict=True)
    ]
    best = max(sum(each**2 for group in choice for each in group) for choice in product(*choices))
    assert [int(mask.sum()) for mask in ours.masks.values()] == budgets
    assert kept(gradients, ours) == best


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(0.01, 0.9))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_random_mask_of_the_same_budgets_keeps_more(
    layout: str, seed: int, heads: int, fraction: float
) -> None:
    encoder = shared_encoder(layout)
    gradients = random_gradients(encoder, seed=seed)
    ours = select(encoder.tower, gradients, heads=heads, fc1_fraction=fraction)
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, Tensor | None] = {}
    for block in encoder.tower.blocks:
        others = torch.randperm(block.heads, generator=generator)[: len(ours.heads[block.index])]
        rows.update(block.head_rows(others.tolist()))
    masks = {
        name: mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(mask)
        for name, mask in ours.masks.items()
    }
    assert kept(gradients, Selection(masks=masks)) < kept(gradients, Selection(masks=ours.masks))
    assert kept(gradients, Selection(rows=rows)) <= kept(gradients, Selection(rows=ours.rows))
