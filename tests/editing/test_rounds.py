"""Rounds of training: which follow, what each takes, and which are undone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from editing.augmentation import Augmentation
from editing.early_stop import Standing
from editing.errors import LossDiverged
from editing.fewshot import EditTask
from editing.methods import fit
from editing.trainer import Level
from encoder.clip import Encoder
from encoder.deltas import Sparse
from tests.support.edit_task import LABELS, edit_task, quick_config
from tests.support.tiny_encoder import random_pixels, state_bytes, tiny_encoder


@pytest.fixture
def varied(monkeypatch: pytest.MonkeyPatch) -> list[Augmentation]:
    """Variations asked for, step by step; photos stay as they are."""
    seen = list[Augmentation]()

    def still(self: Augmentation, pixels: Tensor, _: torch.Generator) -> Tensor:
        seen.append(self)
        return pixels

    monkeypatch.setattr(Augmentation, "apply", still)
    return seen


WILD = Augmentation(crop=0.2, rotation=40)


def test_photos_vary_half_as_much_from_round_to_round(varied: list[Augmentation]) -> None:
    config = quick_config(
        epochs=1, min_steps=2, batch_size=2, rounds=3, learning_rate=1e-7, stop_margin=100,
        augmentation=WILD,
    )  # fmt: skip
    fit(tiny_encoder(), edit_task([0, 1, 2, 3]), config, seed=0)
    assert varied == [WILD.weaker(share) for share in (1, 1, 0.5, 0.5, 0.25, 0.25)]


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


def test_photos_vary_as_before_where_a_round_was_undone(varied: list[Augmentation]) -> None:
    config = quick_config(**RECKLESS, augmentation=WILD)
    history = fit(tiny_encoder(), edit_task([0, 1, 2, 3], guard=8), config, seed=0).history
    assert history.undone >= 1
    rounds = history.steps // 20
    assert rounds > history.undone
    kept = [max(0, number - history.undone) for number in range(rounds)]
    assert varied[::20] == [WILD.weaker(0.5**number) for number in kept]


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
