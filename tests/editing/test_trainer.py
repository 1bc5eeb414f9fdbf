from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from editing.errors import EditCancelled, LossDiverged
from editing.fewshot import EditTask
from editing.methods import Fit, LorsuConfig, fit
from editing.trainer import Pace, rate_factor
from encoder.clip import Encoder
from encoder.deltas import Sparse
from tests.support.edit_task import edit_task, quick_config
from tests.support.tiny_encoder import random_pixels, state_bytes, tiny_encoder


def drift(encoder: Encoder, fitted: Fit, task: EditTask) -> float:
    """Mean squared distance of the guard images' features from where they were."""
    edited = encoder.merged_deltas(fitted.deltas, label="edited").embed_images(task.guard_pixels)
    return float((edited - encoder.embed_images(task.guard_pixels)).square().sum(1).mean())


def test_every_step_of_every_round_has_its_step_size(taken: list[dict[float, float]]) -> None:
    """Ten steps: two of warm-up, eight of half a cosine; then the same, three times as large."""
    config = quick_config(
        epochs=1, min_steps=10, batch_size=2, rounds=3, growth=3, small_job_rate=0.25,
        warmup_fraction=0.2, learning_rate=4e-7, fc1_learning_rate=8e-7, stop_margin=100,
    )  # fmt: skip
    fit(tiny_encoder(), edit_task([0, 1, 2, 3]), config, seed=0)
    falling = [math.cos(math.pi * step / 16) ** 2 for step in range(8)]
    factors = [grown * each for grown in (1, 3, 9) for each in (0.5, 1, *falling)]
    expected = [{peak: peak * factor for peak in (1e-7, 2e-7)} for factor in factors]
    assert len(taken) == 30
    for found, wanted in zip(taken, expected, strict=True):
        assert found == pytest.approx(wanted)


def test_steps_whose_numbers_are_averaged_stay_at_their_peak(
    taken: list[dict[float, float]],
) -> None:
    config = quick_config(
        epochs=5, batch_size=2, averaging=0.5, warmup_fraction=0.2, learning_rate=4e-7,
        fc1_learning_rate=8e-7, stop_margin=100,
    )  # fmt: skip
    fit(tiny_encoder(), edit_task([0, 1, 2, 3]), config, seed=0)
    assert [step[4e-7] for step in taken] == pytest.approx([2e-7] + [4e-7] * 9)


def test_a_round_ends_with_the_mean_of_what_its_last_steps_arrived_at() -> None:
    config = quick_config(
        epochs=5, batch_size=2, averaging=0.4, fc1_learning_rate=2e-2, stop_margin=100
    )
    arrived = list[Tensor]()

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        (single,) = (each for each in optimizer.param_groups if each["peak"] == 2e-2)
        arrived.append(torch.cat([each.detach() for each in single["params"]]))

    handle = register_optimizer_step_post_hook(look)
    fitted = fit(tiny_encoder(), edit_task([0, 1, 2, 3]), config, seed=0)
    handle.remove()
    assert len(arrived) == 10
    end = torch.cat([each.values for each in fitted.deltas.values() if isinstance(each, Sparse)])
    torch.testing.assert_close(end, torch.stack(arrived[6:]).mean(0))
    assert not torch.allclose(end, arrived[-1])


def test_an_early_stop_really_takes_smaller_and_smaller_steps(
    taken: list[dict[float, float]],
) -> None:
    config = quick_config(epochs=300, stop_margin=1, warmup_fraction=0.01, landing=0.04)
    fitted = fit(tiny_encoder(), edit_task([0, 1, 2, 3]), config, seed=0)
    assert fitted.history.stopped_early
    assert len(taken) == fitted.history.steps
    reached, landing = len(taken) - 13, 12  # the step that reached the margin, and 0.04 of 300
    top = config.learning_rate * math.cos(math.pi * (reached - 3) / 2 / 297) ** 2
    sizes = [step[config.learning_rate] for step in taken[reached:]]
    fading = [math.cos(math.pi * step / 2 / (landing + 1)) ** 2 for step in range(landing + 1)]
    assert sizes == pytest.approx([top * part for part in fading])


def test_step_size_rises_then_falls_as_a_cosine() -> None:
    factors = [rate_factor(step, 20, 0.2) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[12] == pytest.approx(0.5)
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert 0 < factors[-1] < 0.02
    assert rate_factor(0, 1, 0.0) == 1.0


@pytest.mark.parametrize(
    ("images", "steps"), [(1, 40), (20, 40), (160, 100), (500, 312), (10_000, 600)]
)
def test_steps_follow_the_images_within_bounds(images: int, steps: int) -> None:
    config = LorsuConfig(epochs=10, batch_size=16, min_steps=40, max_steps=600)
    assert config.steps_for(images) == steps


def test_small_jobs_take_smaller_steps() -> None:
    config = LorsuConfig(epochs=8, batch_size=16, min_steps=40, small_job_rate=0.5)
    assert [config.rate_for(images) for images in (1, 20, 78, 80, 500)] == [0.5, 0.5, 0.5, 1, 1]


def test_training_stops_once_every_correction_is_right_with_a_margin() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3])
    fitted = fit(encoder, task, quick_config(epochs=300, stop_margin=1.0), seed=0)
    assert fitted.history.stopped_early
    assert fitted.history.steps < 300
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    logits = encoder.logit_scale * edited.embed_images(task.pixels) @ task.text_features.T
    right = logits.gather(1, task.targets[:, None])
    others = logits.scatter(1, task.targets[:, None], -torch.inf).amax(dim=1, keepdim=True)
    assert bool((right - others >= 0.99).all())


def test_a_wider_margin_takes_more_steps() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3])
    steps = [
        fit(encoder, task, quick_config(epochs=300, stop_margin=margin), seed=0).history.steps
        for margin in (0.5, 3.0)
    ]
    assert steps[0] < steps[1]


def test_an_early_stop_lands_on_falling_step_sizes() -> None:
    pace = Pace(40, LorsuConfig(warmup_fraction=0.2, landing=0.5))
    pace.landed = 5
    factors = [pace.factor(step) for step in range(5, pace.end)]
    assert pace.end == 26
    assert factors[0] == rate_factor(5, 40, 0.2)
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] < 0.02


def test_a_landing_never_outlasts_its_round() -> None:
    pace = Pace(40, LorsuConfig(landing=0.5))
    pace.landed = 35
    assert pace.end == 40


def test_the_guard_term_keeps_features_where_they_were() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3], guard=8)
    drifts = {}
    for weight in (0, 30):
        config = quick_config(guard_weight=weight, epochs=40, stop_margin=100)
        drifts[weight] = drift(encoder, fit(encoder, task, config, seed=0), task)
    assert drifts[30] < 0.5 * drifts[0]


def test_guard_features_are_the_callers_where_it_gives_them() -> None:
    encoder = tiny_encoder()
    task = edit_task([0, 1])
    frozen = encoder.embed_images(task.guard_pixels)
    given = EditTask(
        task.pixels, task.targets, task.allowed, task.text_features, task.new,
        task.guard_pixels, guard_features=frozen,
    )  # fmt: skip
    mirrored = EditTask(
        task.pixels, task.targets, task.allowed, task.text_features, task.new,
        task.guard_pixels, guard_features=-frozen,
    )  # fmt: skip
    config = quick_config(epochs=3, guard_weight=1)
    losses = [fit(encoder, each, config, seed=0).history.losses for each in (task, given, mirrored)]
    assert losses[0] == losses[1]
    assert losses[2][0] == pytest.approx(losses[0][0] + 4, rel=1e-4)


def test_a_task_without_guard_images_is_trained_all_the_same() -> None:
    fitted = fit(tiny_encoder(), edit_task([0, 1], guard=0), quick_config(epochs=3), seed=0)
    assert fitted.history.steps == 3


def test_a_loss_that_is_no_number_stops_the_edit_and_spares_the_encoder() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2])
    before = state_bytes(encoder.model)
    task.text_features[1] = torch.nan
    with pytest.raises(LossDiverged) as caught:
        fit(encoder, task, quick_config(), seed=0)
    assert caught.value.step == 0
    assert state_bytes(encoder.model) == before


def test_progress_reports_both_phases_and_can_cancel() -> None:
    encoder = tiny_encoder()
    before = state_bytes(encoder.model)
    seen: list[tuple[str, int, int]] = []

    def watch(phase: str, step: int, steps: int, loss: float | None) -> None:
        seen.append((phase, step, steps))
        if phase == "training" and step == 2:
            assert loss is not None
            raise EditCancelled

    with pytest.raises(EditCancelled):
        fit(encoder, edit_task([0, 1, 2, 0]), quick_config(batch_size=2), seed=0, progress=watch)
    scoring, training = (
        [s for s in seen if s[0] == "scoring"],
        [s for s in seen if s[0] != "scoring"],
    )
    assert scoring == [("scoring", 0, 2), ("scoring", 1, 2)]
    assert training == [("training", step, 40) for step in range(3)]
    assert state_bytes(encoder.model) == before


def test_the_guard_takes_no_more_images_than_configured() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1], guard=6)
    fewer = EditTask(
        task.pixels, task.targets, task.allowed, task.text_features, task.new,
        torch.cat([task.guard_pixels[:2], random_pixels(4, seed=77)]),
    )  # fmt: skip
    config = quick_config(epochs=4, guard_images=2)
    first, second = (fit(encoder, each, config, seed=0).history.losses for each in (task, fewer))
    assert first == second
