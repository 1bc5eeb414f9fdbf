"""A whole run of LoRSU is the one that is written out in `dense_lorsu`, weight by weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editing.fewshot import ClassBalancedBatches, EditTask
from editing.guard_term import GuardTerm
from editing.methods import Fit, LorsuConfig, fit
from encoder.clip import Encoder
from encoder.deltas import LowRank
from tests.editing.methods.dense_lorsu import (
    NAMES,
    Chance,
    DenseTower,
    Numbers,
    Run,
    Task,
    choose,
    dense_lorsu,
)
from tests.support.edit_task import edit_task, quick_config
from tests.support.tiny_encoder import LAYOUTS, tiny_encoder

EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
STEPS = 20
RATES = {"learning_rate": 1e-2, "fc1_learning_rate": 3e-3}
CLOSE = 5e-6  # of weights that move by 1e-2 and more: what fp32 makes of twenty steps


def corrections() -> EditTask:
    """Eight images, each of which could not have been given one of the labels."""
    task = edit_task([0, 1, 2, 3, 4, 0, 1, 2], seed=5)
    allowed = task.allowed.clone()
    allowed[torch.arange(8), (task.targets + 2) % 6] = False
    return replace(task, allowed=allowed)


def plain(task: EditTask) -> Task:
    return Task(task.pixels, task.targets, task.allowed, task.text_features, task.guard_pixels)


def numbers_of(config: LorsuConfig) -> Numbers:
    return Numbers(
        heads=config.heads,
        fc1_fraction=config.fc1_fraction,
        scale=config.alpha / config.rank,
        rate=config.learning_rate,
        fc1_rate=config.fc1_learning_rate,
        warmup=round(config.warmup_fraction * STEPS),
        guard_weight=config.guard_weight,
        code_parity=config.mode == "code-parity",
    )


def both(
    monkeypatch: pytest.MonkeyPatch, layout: str, encoder: Encoder, **changes: object
) -> tuple[Fit, Run]:
    """Ours, and the same in dense tensors with what chance decided in ours."""
    task = corrections()
    settings = {"alpha": 2, "batch_size": 3, "guard_batch_size": 3, "stop_margin": 100, **RATES}
    config = quick_config(epochs=STEPS * 3 / len(task), **{**settings, **changes})
    before = fit(encoder, task, config.model_copy(update={"epochs": 0}), seed=3)
    downs = {n: delta.down for n, delta in before.deltas.items() if isinstance(delta, LowRank)}
    batches: list[Tensor] = []
    guards: list[Tensor] = []
    draw, watch = ClassBalancedBatches.draw, GuardTerm.draw

    def drawn(self: ClassBalancedBatches) -> Tensor:
        batches.append(draw(self))
        return batches[-1]

    def watched(self: GuardTerm) -> tuple[Tensor, Tensor]:
        found = watch(self)
        guards.append(found[0])
        return found

    monkeypatch.setattr(ClassBalancedBatches, "draw", drawn)
    monkeypatch.setattr(GuardTerm, "draw", watched)
    fitted = fit(encoder, task, config, seed=3)
    assert fitted.history.steps == len(batches) == STEPS
    chance = Chance(downs, batches, guards)
    return fitted, dense_lorsu(layout, encoder.model, plain(task), numbers_of(config), chance)


def assert_match(encoder: Encoder, fitted: Fit, run: Run, *, but: Mapping[str, slice]) -> None:
    """All weights of the edited model; `but` names rows that are not compared."""
    assert fitted.selection.heads == run.heads
    assert fitted.deltas.keys() == run.masks.keys()
    for name, mask in fitted.selection.masks.items():
        assert torch.equal(mask, run.masks[name].bool())
    torch.testing.assert_close(fitted.history.losses, run.losses, rtol=0, atol=5e-5)
    start = encoder.model.state_dict()
    ours = encoder.merged_deltas(fitted.deltas, label="edited").model.state_dict()
    for name, expected in run.weights.items():
        if name not in run.masks:
            assert torch.equal(ours[name], start[name])
            continue
        assert float((ours[name] - start[name]).abs().max()) > 1e-2
        assert torch.equal(ours[name] == start[name], run.masks[name] == 0)
        found = ours[name].double()
        rows = but.get(name, slice(0, 0))
        found[rows] = expected[rows]
        torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("guard_weight", [0, 5], ids=["alone", "guarded"])
@EVERY_LAYOUT
def test_a_strict_run_matches_the_dense_one_in_every_weight(
    monkeypatch: pytest.MonkeyPatch, layout: str, guard_weight: float
) -> None:
    encoder = tiny_encoder(layout)
    fitted, run = both(monkeypatch, layout, encoder, guard_weight=guard_weight)
    assert_match(encoder, fitted, run, but={})


@EVERY_LAYOUT
def test_a_code_parity_run_matches_the_dense_one_in_every_weight(
    monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """But for the bias of the keys: softmax cancels what all keys share, so that its gradient is
    the rounding of zero, which Adam turns into steps of full size."""
    encoder = tiny_encoder(layout)
    fitted, run = both(monkeypatch, layout, encoder, mode="code-parity", guard_weight=5)
    keys = {
        name: slice(len(mask) // 3, 2 * len(mask) // 3)
        for name, mask in run.masks.items()
        if name.endswith((".in_proj_bias", ".qkv.bias"))
    }
    assert_match(encoder, fitted, run, but=keys)
    start = encoder.model.state_dict()
    for name, rows in keys.items():
        torch.testing.assert_close(run.weights[name][rows], start[name][rows].double())


def test_a_second_update_scores_again_and_has_a_fresh_optimizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tiny_encoder()
    config = quick_config(epochs=5, heads=2, guard_weight=0, **RATES)
    first = fit(base, edit_task([5, 4, 3, 2]), config, seed=1)
    parent = base.merged_deltas(first.deltas, label="first")
    with monkeypatch.context() as patches:
        again, run = both(patches, "open_clip", parent, heads=2, guard_weight=0)
    assert_match(parent, again, run, but={})
    with monkeypatch.context() as patches:
        _, from_base = both(patches, "open_clip", base, heads=2, guard_weight=0)
    assert any(bool((run.masks[name] != mask).any()) for name, mask in from_base.masks.items())


@EVERY_LAYOUT
def test_squares_of_single_images_would_choose_other_heads_and_entries(layout: str) -> None:
    """Else no comparison above could tell the square of the mean from the mean of squares."""
    tower, task, to = (
        DenseTower(tiny_encoder(layout).model),
        corrections(),
        numbers_of(quick_config()),
    )
    alone = [tower.gradient(plain(task), [position]) for position in range(len(task))]
    mean = {name: torch.stack([each[name] for each in alone]).mean(0) for name in alone[0]}
    size = {
        name: torch.stack([each[name] for each in alone]).square().mean(0).sqrt()
        for name in alone[0]
    }
    ours, others = (choose(NAMES[layout], tower, each, to) for each in (mean, size))
    assert ours.heads != others.heads
    assert all(
        not torch.equal(ours.masks[name], mask)
        for name, mask in others.masks.items()
        if "mlp" in name
    )
