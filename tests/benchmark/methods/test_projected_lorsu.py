from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.methods import parse
from benchmark.methods.projected_lorsu import ProjectedLorsuConfig
from benchmark.residual import principal
from editing.errors import InvalidConfig
from editing.fewshot import EditTask
from editing.methods import fit
from encoder.deltas import LowRank, Sparse
from tests.support.edit_task import edit_task, quick_method
from tests.support.tiny_encoder import LAYOUTS, random_pixels, tiny_encoder


def drift(method: str, task: EditTask, **changes: object) -> tuple[float, float]:
    """How far an edit moves the features of its guard images, and of its corrections."""
    encoder = tiny_encoder()
    config = quick_method(method, guard_weight=0, epochs=10, **changes)
    edited = encoder.merged_deltas(fit(encoder, task, config, seed=0).deltas, label="edited")
    guard, corrections = (
        (edited.embed_images(pixels) - encoder.embed_images(pixels)).norm(dim=1).mean().item()
        for pixels in (task.guard_pixels, task.pixels)
    )
    return guard, corrections


@pytest.mark.parametrize("layout", LAYOUTS)
def test_q_k_v_and_fc1_leave_the_weights_own_directions_alone(layout: str) -> None:
    encoder = tiny_encoder(layout)
    config = quick_method("projected_lorsu", epochs=3, kept_energy=0.6)
    assert isinstance(config, ProjectedLorsuConfig)
    deltas = fit(encoder, edit_task([0, 1, 2, 3]), config, seed=0).deltas
    for block in encoder.tower.blocks:
        for name in (*block.attention, *block.fc1):
            delta, weight = deltas.pop(name), encoder.model.get_parameter(name).detach()
            assert isinstance(delta, LowRank)
            assert delta.down.shape[0] == (8 if name in block.fc1 else 4)
            kept = principal(weight.T @ weight, 0.6, most=weight.shape[1] - config.rank)
            assert kept.shape[1] > 0
            outputs = kept.T @ weight.T
            torch.testing.assert_close(kept.T @ delta.apply(weight).T, outputs)
            assert not torch.equal(delta.apply(weight), weight)
    assert deltas == {}


def test_guard_images_move_less_than_under_lorsu_and_corrections_still_move() -> None:
    images = random_pixels(4, seed=1)
    few = images[:, :, :1, :1].expand_as(images).contiguous()  # of one colour: few directions
    task = replace(edit_task([0, 1, 2, 3]), guard_pixels=few)
    plain, moved = drift("lorsu", task)
    projected, still = drift("projected_lorsu", task, guard_energy=0.99, kept_energy=0)
    unguarded, _ = drift("projected_lorsu", task, guard_energy=0, kept_energy=0)
    assert projected < 0.5 * plain
    assert projected < 0.5 * unguarded
    assert still > 0.3 * moved


def test_fc1_may_move_as_in_lorsu() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3])
    lorsu = fit(encoder, task, quick_method("lorsu", epochs=0), seed=0).selection
    config = quick_method("projected_lorsu", epochs=2, fc1="masked")
    deltas = fit(encoder, task, config, seed=0).deltas
    for name, mask in lorsu.masks.items():
        delta = deltas[name]
        assert isinstance(delta, Sparse)
        assert torch.equal(delta.mask, mask)


def test_without_guard_images_the_weights_alone_say_what_is_kept() -> None:
    bare = edit_task([0, 1, 2, 3], guard=0)
    config = quick_method("projected_lorsu", epochs=2)
    assert fit(tiny_encoder(), bare, config, seed=0).history.steps == 2


def test_only_strict_mode_is_projected() -> None:
    with pytest.raises(InvalidConfig, match="mode"):
        parse("projected_lorsu", {"mode": "code-parity"})
