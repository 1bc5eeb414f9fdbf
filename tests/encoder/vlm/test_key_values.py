from __future__ import annotations

import torch

from encoder.vlm.key_values import KeyValues, Stretch


def block(columns: int, *, rows: int = 2, seed: int = 0) -> torch.Tensor:
    """[rows, 3, columns, 4]"""
    return torch.randn(rows, 3, columns, 4, generator=torch.Generator().manual_seed(seed))


def test_it_returns_all_that_it_was_given() -> None:
    cache = KeyValues()
    parts = [block(columns, seed=columns) for columns in (5, 1, 1, 100)]
    assert cache.get_seq_length() == 0
    for index, part in enumerate(parts):
        for layer in range(2):
            keys, values = cache.update(part + layer, part - layer, layer)
            expected = torch.cat(parts[: index + 1], dim=2)
            assert torch.equal(keys, expected + layer)
            assert torch.equal(values, expected - layer)
    assert cache.get_seq_length(1) == 107
    assert cache.get_mask_sizes(3, 1) == (110, 0)
    assert cache.get_query_offset() == 107


def test_one_more_column_copies_nothing_most_of_the_time() -> None:
    cache = KeyValues()
    cache.update(block(10), block(10), 0)
    places = {cache.update(block(1), block(1), 0)[0].data_ptr() for _ in range(60)}
    assert len(places) == 1


def test_what_is_cropped_is_written_over() -> None:
    cache = KeyValues()
    cache.update(block(5), block(5), 0)
    cache.crop(3)
    keys, _ = cache.update(block(2, seed=1), block(2, seed=1), 0)
    assert torch.equal(keys, torch.cat([block(5)[:, :, :3], block(2, seed=1)], dim=2))


def test_rows_of_several_caches_are_aligned_at_the_right() -> None:
    first, second = KeyValues(), KeyValues()
    first.update(block(6), -block(6), 0)
    second.update(block(4, seed=1), -block(4, seed=1), 0)
    stacked = KeyValues.stacked([Stretch(second, 1, 0, 3), Stretch(first, 0, 1, 5)])
    keys, values = stacked.update(block(1, seed=2), -block(1, seed=2), 0)
    assert keys.shape == (2, 3, 6, 4)
    assert torch.equal(keys[0, :, 2:5], block(4, seed=1)[1, :, :3])
    assert torch.equal(keys[1, :, :5], block(6)[0, :, 1:6])
    assert torch.equal(keys[:, :, 5:], block(1, seed=2))
    assert torch.equal(values, -keys)
    assert keys[0, :, :2].abs().sum() == 0
