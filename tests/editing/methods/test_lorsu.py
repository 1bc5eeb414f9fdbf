from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from editing.gate import GateConfig
from editing.methods import LorsuConfig, fit
from encoder.deltas import Dense, LowRank, Sparse
from tests.editing.methods.test_fitting import as_bytes
from tests.support.edit_task import edit_task, quick_config, text_features
from tests.support.tiny_encoder import LAYOUTS, random_pixels, tiny_encoder

EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
TARGETS = [0, 1, 2, 3, 4, 0, 1, 2]


@EVERY_LAYOUT
def test_strict_mode_moves_attention_rows_and_fc1_entries_only(layout: str) -> None:
    encoder = tiny_encoder(layout)
    fitted = fit(encoder, edit_task(TARGETS), quick_config(epochs=1), seed=0)
    for block in encoder.tower.blocks:
        for name in block.attention:
            delta = fitted.deltas.pop(name)
            assert isinstance(delta, LowRank)
            rows = delta.rows
            assert rows is not None
            assert len(rows) == block.head_width * (3 if len(block.attention) == 1 else 1)
        for name in block.fc1:
            assert isinstance(fitted.deltas.pop(name), Sparse)
    assert fitted.deltas == {}


def test_code_parity_adds_projection_and_biases() -> None:
    encoder = tiny_encoder()
    fitted = fit(encoder, edit_task(TARGETS), quick_config(mode="code-parity", epochs=1), seed=0)
    strict = fit(encoder, edit_task(TARGETS), quick_config(epochs=1), seed=0)
    added = {name: fitted.deltas[name] for name in fitted.deltas.keys() - strict.deltas.keys()}
    projection = added.pop("visual.proj")
    assert isinstance(projection, LowRank)
    assert projection.rows is None
    assert sorted(added) == [
        f"visual.transformer.resblocks.{block}.{bias}"
        for block in range(2)
        for bias in ("attn.in_proj_bias", "mlp.c_fc.bias")
    ]
    assert all(isinstance(delta, Dense) for delta in added.values())


def test_scoring_starts_from_the_encoder_given() -> None:
    base, task = tiny_encoder(), edit_task(TARGETS)
    first = fit(base, task, quick_config(epochs=3), seed=0)
    parent = base.merged_deltas(first.deltas, label="parent")
    second = fit(parent, task, quick_config(epochs=0), seed=0)
    again = fit(parent, task, quick_config(epochs=0), seed=0)
    assert as_bytes(second.deltas) == as_bytes(again.deltas)
    stacked = parent.merged_deltas(second.deltas, label="stacked")
    pixels = random_pixels(2)
    assert torch.equal(stacked.embed_images(pixels), parent.embed_images(pixels))


def test_the_summary_is_plain_and_complete() -> None:
    fitted = fit(tiny_encoder(), edit_task(TARGETS), quick_config(epochs=2), seed=0)
    summary = fitted.summary
    assert summary["steps"] == len(summary["losses"]) == 2
    assert summary["parameters"] == fitted.parameters > 0
    assert summary["selection"]["heads"].keys() == {"0", "1"}


def test_the_authors_config_is_theirs() -> None:
    config = LorsuConfig.code_parity()
    assert (config.mode, config.rank, config.alpha) == ("code-parity", 64, 64)
    assert (config.fc1_fraction, config.batch_size, config.epochs) == (0.1, 16, 5)
    assert (config.learning_rate, config.fc1_learning_rate) == (1e-5, 1e-5)


def test_the_authors_config_has_nothing_of_ours() -> None:
    config = LorsuConfig.code_parity()
    assert (config.rounds, config.growth, config.stop_margin) == (1, 1, 100)
    assert [config.steps_for(images) for images in (20, 860)] == [6, 269]  # five passes
    assert [config.rate_for(images) for images in (20, 860)] == [1, 1]
    assert (config.guard_weight, config.guard_images) == (0, 0)
    varied = config.augmentation
    assert (varied.crop, varied.rotation) == (0.9, 0)
    assert math.exp(varied.stretch) == pytest.approx(4 / 3)
    assert min(varied.jitter, varied.grayscale) > 0


def test_the_authors_config_fits() -> None:
    task = edit_task([0, 1, 2, 3])
    fitted = fit(tiny_encoder(), task, LorsuConfig.code_parity(), seed=0)
    assert fitted.history.steps == 5
    assert not fitted.history.stopped_early


def test_two_hundred_corrections_of_forty_three_classes_are_learned() -> None:
    encoder, count = tiny_encoder(), 200
    targets = torch.arange(count) % 43
    noise = random_pixels(count, seed=1).float()
    pixels = (0.9 * random_pixels(43).float()[targets] + 0.1 * noise).to(torch.uint8)
    task = replace(
        edit_task([0] * count),
        pixels=pixels,
        targets=targets,
        allowed=torch.ones(count, 43, dtype=torch.bool),
        text_features=text_features(43),
    )
    before = encoder.embed_images(pixels) @ task.text_features.T
    fitted = fit(encoder, task, quick_config(epochs=12, rank=8, heads=4, fc1_fraction=0.5), seed=0)
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    after = edited.embed_images(pixels) @ task.text_features.T
    right = [float((scores.argmax(dim=1) == targets).float().mean()) for scores in (before, after)]
    assert right[0] < 0.2
    assert right[1] >= GateConfig().min_fixed
