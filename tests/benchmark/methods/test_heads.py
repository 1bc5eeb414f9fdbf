"""Which heads the rivals of LoRSU's choice take, at LoRSU's price."""

from __future__ import annotations

import pytest

from editing.methods import Fit, fit
from editing.methods.fitting import Subject
from encoder.deltas import LowRank
from tests.editing.test_selection import random_gradients
from tests.support.edit_task import edit_task, quick_method
from tests.support.tiny_encoder import LAYOUTS, tiny_encoder

CHOICES = ("random_heads", "lowest_heads", "all_heads")


def fitted(method: str, layout: str, seed: int = 0, **changes: object) -> Fit:
    config = quick_method(method, epochs=0, **changes)
    return fit(tiny_encoder(layout), edit_task([0, 1, 2, 3]), config, seed=seed)


@pytest.mark.parametrize("method", CHOICES)
def test_only_the_heads_differ_from_lorsu(method: str) -> None:
    own, lorsu = fitted(method, "open_clip"), fitted("lorsu", "open_clip")
    assert own.selection.rows.keys() == lorsu.selection.rows.keys()
    for name, mask in lorsu.selection.masks.items():
        assert bool((own.selection.masks[name] == mask).all())
    for block in tiny_encoder().tower.blocks:
        expected = block.head_rows(own.selection.heads[block.index])
        for name, rows in expected.items():
            kept = own.selection.rows[name]
            assert kept is not None
            assert kept.tolist() == rows.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_lowest_heads_have_the_lowest_scores(layout: str) -> None:
    encoder = tiny_encoder(layout)
    gradients = random_gradients(encoder)
    config = quick_method("lowest_heads", heads=1)
    selection = config.select(Subject(encoder, lambda _: gradients))
    for block in encoder.tower.blocks:
        worst = int(block.head_scores(gradients).argmin())
        assert selection.heads[block.index] == (worst,)


def test_random_heads_are_another_lot_for_another_seed() -> None:
    heads = [fitted("random_heads", "open_clip", seed).selection.heads for seed in (0, 0, 1, 2, 3)]
    assert heads[0] == heads[1]
    assert len({str(each) for each in heads}) > 1
    assert all(len(chosen) == 1 for each in heads for chosen in each.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_heads_train_no_more_numbers_than_some(layout: str) -> None:
    own, lorsu = (fitted(each, layout, rank=8) for each in ("all_heads", "lorsu"))
    encoder = tiny_encoder(layout)
    for block in encoder.tower.blocks:
        assert own.selection.heads[block.index] == tuple(range(block.heads))
        for name in block.attention:
            delta, other = own.deltas[name], lorsu.deltas[name]
            assert isinstance(delta, LowRank)
            rank, height = delta.down.shape[0], delta.up.shape[0] + delta.down.shape[1]
            assert rank * height <= other.parameters < (rank + 1) * height
