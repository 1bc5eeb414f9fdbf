from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from editing.augmentation import Augmentation
from editing.early_stop import Standing
from editing.errors import EditCancelled, LossDiverged
from editing.fewshot import EditTask
from editing.methods import Fit, LorsuConfig, fit
from editing.trainer import Level, Pace, rate_factor
from encoder.clip import Encoder
from encoder.deltas import Sparse
from tests.support.edit_task import LABELS, edit_task, quick_config
from tests.support.tiny_encoder import random_pixels, state_bytes, tiny_encoder


def drift(encoder: Encoder, fitted: Fit, task: EditTask) -> float:
    """Mean squared distance of the guard images' features from where they were."""
    edited = encoder.merged_deltas(fitted.deltas, label="edited").embed_images(task.guard_pixels)
    return float((edited - encoder.embed_images(task.guard_pixels)).square().sum(1).mean())


@pytest.fixture
def taken() -> Iterator[list[dict[float, float]]]:
    """Step sizes that an optimizer really used, by the peaks of their groups, step by step."""
    seen: list[dict[float, float]] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        assert type(optimizer) is torch.optim.Adam
        assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)
        seen.append({group["peak"]: group["lr"] for group in optimizer.param_groups})

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


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


def test_photos_vary_half_as_much_from_round_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    wild, seen = Augmentation(crop=0.2, rotation=40), list[Augmentation]()

    def still(self: Augmentation, pixels: Tensor, _: torch.Generator) -> Tensor:
        seen.append(self)
        return pixels

    monkeypatch.setattr(Augmentation, "apply", still)
    config = quick_config(
        epochs=1, min_steps=2, batch_size=2, rounds=3, learning_rate=1e-7, stop_margin=100,
        augmentation=wild,
    )  # fmt: skip
    fit(tiny_encoder(), edit_task([0, 1, 2, 3]), config, seed=0)
    assert seen == [wild.weaker(share) for share in (1, 1, 0.5, 0.5, 0.25, 0.25)]


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


def test_another_round_follows_while_corrections_are_wrong() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3])
    timid = {"epochs": 2, "learning_rate": 1e-6, "fc1_learning_rate": 1e-6, "growth": 2}
    steps = [
        fit(encoder, task, quick_config(rounds=rounds, **timid), seed=0).history.steps
        for rounds in (1, 3)
    ]
    assert steps == [2, 6]


@pytest.mark.parametrize(("new", "rounds"), [([0, 1, 2], 1), ([3], 3), ([2, 3], 3), ([], 1)])
def test_another_round_follows_while_new_corrections_are_wrong(new: list[int], rounds: int) -> None:
    """Three of four photos are right from the start, and nothing is learnt."""
    encoder = tiny_encoder()
    plain = edit_task([0, 0, 0, 0])
    seen = (encoder.embed_images(plain.pixels) @ plain.text_features.T).argmax(1)
    wrong = (seen[3:] + 1) % LABELS
    task = replace(plain, targets=torch.cat([seen[:3], wrong]), new=torch.zeros(4).bool())
    task.new[new] = True
    idle = {"learning_rate": 1e-9, "fc1_learning_rate": 1e-9, "epochs": 2, "enough_right": 0.75}
    history = fit(encoder, task, quick_config(rounds=3, **idle), seed=0).history
    assert history.steps == 2 * rounds


def test_no_round_follows_once_enough_corrections_are_right() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3])
    config = quick_config(rounds=4, epochs=60, stop_margin=100)
    fitted = fit(encoder, task, config, seed=0)
    edited = encoder.merged_deltas(fitted.deltas, label="edited").embed_images(task.pixels)
    assert (edited @ task.text_features.T).argmax(1).tolist() == task.targets.tolist()
    assert fitted.history.steps == 60


def test_step_sizes_grow_from_round_to_round() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3])
    moved = []
    for growth in (1, 10):
        config = quick_config(
            rounds=2, epochs=3, learning_rate=1e-6, fc1_learning_rate=1e-6, growth=growth
        )
        deltas = fit(encoder, task, config, seed=0).deltas.values()
        sparse = [delta.values for delta in deltas if isinstance(delta, Sparse)]
        moved.append(max(float(values.abs().max()) for values in sparse))
    assert moved[1] > 2 * moved[0]


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


def test_nothing_is_asked_after_the_last_round() -> None:
    told: list[int] = []
    config = quick_config(rounds=1, stop_margin=100)
    fit(
        tiny_encoder(),
        edit_task([0, 1]),
        config,
        seed=0,
        progress=lambda phase, step, *_: told.append(step) if phase == "training" else None,
    )
    assert told == list(range(20))


RECKLESS = {
    "epochs": 10, "batch_size": 2, "learning_rate": 1.0, "fc1_learning_rate": 1.0,
    "guard_weight": 100, "stop_margin": 100, "growth": 3, "warmup_fraction": 0.2, "rounds": 8,
}  # fmt: skip


def test_a_round_that_diverges_is_undone_and_half_the_step_sizes_follow(
    taken: list[dict[float, float]],
) -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3], guard=8)
    fitted = fit(encoder, task, quick_config(**RECKLESS), seed=0)
    undone = fitted.history.undone
    assert undone >= 1
    tops = [
        max(step[1.0] for step in taken[start : start + 20]) for start in range(0, len(taken), 20)
    ]
    assert tops == [0.5 ** min(number, undone) for number in range(len(tops))]
    assert fitted.summary["undone_rounds"] == undone
    assert fitted.history.losses[-1] < fitted.history.losses[0]
    edited = encoder.merged_deltas(fitted.deltas, label="edited").embed_images(task.pixels)
    assert (edited @ task.text_features.T).argmax(1).tolist() == task.targets.tolist()


def test_rounds_that_all_diverge_leave_the_encoder_as_it_was() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3], guard=8)
    fitted = fit(encoder, task, quick_config(**{**RECKLESS, "rounds": 2}), seed=0)
    assert fitted.history.undone == 2
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    assert torch.equal(edited.embed_images(task.pixels), encoder.embed_images(task.pixels))


def test_one_round_alone_is_never_undone() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3], guard=8)
    fitted = fit(encoder, task, quick_config(**{**RECKLESS, "rounds": 1}), seed=0)
    assert fitted.history.undone == 0
    assert fitted.history.losses[-1] > 2 * fitted.history.losses[0]
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    assert state_bytes(edited.model) != state_bytes(encoder.model)


def poisoned_task() -> EditTask:
    """The last photo's own label has no features, and no other photo reads it."""
    task = edit_task([0, 1, 2, 3])
    task.text_features[3] = torch.nan
    task.allowed[:3, 3] = False
    return task


def test_a_loss_that_becomes_no_number_undoes_its_round() -> None:
    """Whatever is poisoned in it: the second round begins where the first did."""
    encoder = tiny_encoder()
    config = quick_config(epochs=2, batch_size=1, rounds=2)
    fitted = fit(encoder, poisoned_task(), config, seed=5)
    assert [math.isfinite(loss) for loss in fitted.history.losses] == [True, False, True, False]
    assert fitted.history.undone == 2
    edited = encoder.merged_deltas(fitted.deltas, label="edited")
    assert state_bytes(edited.model) == state_bytes(encoder.model)


def test_a_round_that_begins_with_no_number_ends_the_edit() -> None:
    """No step size mends that."""
    config = quick_config(epochs=2, batch_size=1, rounds=2)
    with pytest.raises(LossDiverged) as caught:
        fit(tiny_encoder(), poisoned_task(), config, seed=4)
    assert caught.value.step == 2


def one_hard_photo(encoder: Encoder, easy: int, others: int) -> EditTask:
    """It has a label that it shares with `easy` photos, all right by far, as are the `others`: each
    may be its own label or that label's opposite, the hard one its own or what it looks like."""
    pixels = random_pixels(easy + others + 1)
    features = encoder.embed_images(pixels)
    looks, own, other = features[easy], features[:easy].mean(0), features[easy + 1 :].mean(0)
    texts = functional.normalize(torch.stack([own, looks, -own, other]), dim=1)
    allowed = torch.zeros(len(pixels), 4, dtype=torch.bool)
    allowed[:easy, [0, 2]] = True
    allowed[easy, [0, 1]] = True
    allowed[easy + 1 :, [3, 2]] = True
    return EditTask(
        pixels=pixels,
        targets=torch.tensor([0] * (easy + 1) + [3] * others),
        allowed=allowed,
        text_features=texts,
        new=torch.arange(len(pixels)) == easy,
        guard_pixels=pixels[:4],
        guard_features=functional.normalize(features[:4] + 0.02, dim=1),
    )


@pytest.mark.parametrize("guard", [0, 30])
def test_a_round_that_moves_nothing_is_not_undone(guard: int) -> None:
    """However unlike the losses of its first and last steps are: almost all is one photo's."""
    encoder = tiny_encoder()
    idle = {"learning_rate": 1e-9, "fc1_learning_rate": 1e-9, "rounds": 3, "guard_weight": guard}
    config = quick_config(epochs=2, batch_size=8, **idle)
    for seed in range(4):
        history = fit(encoder, one_hard_photo(encoder, 30, 10), config, seed=seed).history
        assert (history.undone, history.steps) == (0, 3 * 10)


def test_one_hard_photo_among_many_right_ones_is_learnt() -> None:
    encoder = tiny_encoder()
    task = one_hard_photo(encoder, 30, 10)
    rates = {"learning_rate": 3e-4, "fc1_learning_rate": 3e-4, "guard_weight": 0}
    config = quick_config(epochs=8, rounds=4, batch_size=8, stop_margin=100, **rates)
    for seed in range(3):
        fitted = fit(encoder, task, config, seed=seed)
        edited = encoder.merged_deltas(fitted.deltas, label="edited").embed_images(task.pixels)
        logits = (edited @ task.text_features.T).masked_fill(~task.allowed, -math.inf)
        assert logits.argmax(1).tolist() == task.targets.tolist()


@pytest.mark.parametrize(
    ("before", "after", "diverged"),
    [
        ((3.0, 0.0), (0.05, 1.5), False),  # taught, for some of what is to be spared
        ((0.08, 0.2), (0.02, 1.0), False),
        ((0.01, 0.2), (0.12, 0.2), False),  # still sure
        ((0.3, 0.2), (0.38, 0.2), True),
        ((0.3, 0.2), (0.3, 0.2), False),
        ((3.0, 0.0), (0.05, 10.1), True),  # taught, and all else is gone
        ((3.0, 20.0), (0.05, 24.0), False),  # it was gone before
        ((3.0, 0.0), (math.nan, 0.0), True),
        ((3.0, 0.0), (0.1, math.inf), True),
    ],
)
def test_a_round_diverges_by_what_it_taught_or_by_what_it_did_not_spare(
    before: tuple[float, float], after: tuple[float, float], diverged: bool
) -> None:
    old, new = (Level(Standing(surprise, right=0.5), guard) for surprise, guard in (before, after))
    assert new.diverged_from(old) is diverged
