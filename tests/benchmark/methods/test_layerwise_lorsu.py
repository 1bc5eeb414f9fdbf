from __future__ import annotations

import pytest
import torch

from benchmark.methods.layerwise_lorsu import LayerwiseLorsuConfig
from editing.methods import fit
from encoder.deltas import LowRank
from tests.editing.methods.test_fitting import as_bytes
from tests.support.edit_task import edit_task, quick_method
from tests.support.tiny_encoder import tiny_encoder

TARGETS = [0, 1, 2, 3]


def test_without_decay_it_is_lorsu_bit_by_bit() -> None:
    encoder, task = tiny_encoder(), edit_task(TARGETS)
    plain = fit(encoder, task, quick_method("lorsu", epochs=3), seed=0)
    same = fit(encoder, task, quick_method("layerwise_lorsu", epochs=3, layer_decay=1), seed=0)
    other = fit(encoder, task, quick_method("layerwise_lorsu", epochs=3, layer_decay=0.5), seed=0)
    assert as_bytes(same.deltas) == as_bytes(plain.deltas)
    assert as_bytes(other.deltas).keys() == as_bytes(plain.deltas).keys()
    assert as_bytes(other.deltas) != as_bytes(plain.deltas)


def test_the_first_step_of_a_block_is_the_next_ones_times_the_decay() -> None:
    encoder, task = tiny_encoder(), edit_task(TARGETS)
    config = quick_method("layerwise_lorsu", epochs=1, warmup_fraction=0, layer_decay=0.25)
    deltas = fit(encoder, task, config, seed=0).deltas
    steps = []
    for block in encoder.tower.blocks:
        delta = deltas[block.attention[0]]
        assert isinstance(delta, LowRank)
        steps.append(delta.up.abs().max().item())  # Adam's first step is its size
    assert steps[1] == pytest.approx(config.learning_rate, rel=1e-3)
    assert steps[0] == pytest.approx(0.25 * steps[1], rel=1e-3)


def test_only_what_stands_before_the_last_block_is_slowed_down() -> None:
    encoder = tiny_encoder()
    factors = LayerwiseLorsuConfig(layer_decay=0.5).factors(encoder.tower)
    first, last = encoder.tower.blocks
    assert {factors[name] for name in (*first.attention, *first.fc1)} == {0.5}
    assert {factors[name] for name in (*last.attention_biases, *last.fc1_biases)} == {1.0}
    assert "visual.proj" not in factors
    assert torch.tensor(list(factors.values())).max() == 1
