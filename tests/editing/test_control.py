from __future__ import annotations

import pytest
import torch
from torch import Tensor

from editing.control import ControlChange, ControlSet, compare
from editing.errors import InvalidTask
from tests.support.edit_task import text_features
from tests.support.tiny_encoder import random_pixels

BEFORE = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 0, 1])


def control(
    targets: Tensor | None,
    *,
    budget: float = 10,
    flip_budget: float | None = None,
    seen: Tensor | None = None,
    images: int = 10,
) -> ControlSet:
    return ControlSet(
        "things",
        random_pixels(images),
        targets,
        text_features(),
        budget,
        seen,
        flip_budget=flip_budget,
    )


def changed(these: ControlSet, after: Tensor) -> ControlChange:
    return compare(these, BEFORE, after, significance=0.05)


def test_a_labelled_set_counts_accuracy_and_flips() -> None:
    after = BEFORE.clone()
    after[0] = 3  # right to wrong
    after[9] = 2  # wrong to wrong
    change = changed(control(torch.zeros(10, dtype=torch.long)), after)
    assert change.to_json() == {
        "name": "things",
        "kind": "classification",
        "n": 10,
        "labelled_n": 10,
        "before": 90.0,
        "after": 80.0,
        "flips": 20.0,
        "budget": 10,
        "labelled": True,
        "unseen": {
            "n": 10, "labelled_n": 10, "before": 90.0, "after": 80.0, "flips": 20.0, "p_value": 1.0
        },
        "losses": [
            {"labelled": True, "n": 10, "lost": 10.0, "budget": 10,
             "unseen": {"n": 10, "lost": 10.0, "p_value": 1.0}},
        ],
    }  # fmt: skip
    assert change.within


def test_an_unlabelled_set_counts_flips_against_the_base() -> None:
    after = BEFORE.clone()
    after[:2] = 5
    change = changed(control(None), after)
    assert (change.whole.before, change.whole.after, change.whole.flips) == (100, 80, 20)
    assert not change.within
    assert "20.00 percent of its answers" in change.complaint
    assert changed(control(None, budget=20), after).within


def test_images_without_a_label_are_judged_beside_labelled_ones() -> None:
    targets = torch.tensor([0, -1, -1, -1, -1, -1, -1, -1, -1, -1])
    after = BEFORE.clone()
    after[1:] = 4
    change = changed(control(targets, budget=0.5, flip_budget=8), after)
    assert not change.within
    assert (change.whole.before, change.whole.after, change.whole.flips) == (100, 100, 90)
    assert (change.whole.n, change.whole.labelled) == (10, 1)
    assert "100.00 percent of its answers on its 9 unlabelled images" in change.complaint
    assert "accuracy" not in change.complaint
    assert changed(control(targets, budget=0.5, flip_budget=100), after).within


def test_labelled_images_are_judged_beside_those_without_a_label() -> None:
    targets = torch.tensor([0, 0, 0, 0, 0, -1, -1, -1, -1, -1])
    after = BEFORE.clone()
    after[0] = 3
    change = changed(control(targets, budget=0.5, flip_budget=100), after)
    assert not change.within
    assert "20.00 points of accuracy on its 5 labelled images" in change.complaint
    found = change.to_json()
    assert (found["n"], found["labelled_n"], found["budget"]) == (10, 5, 0.5)
    assert [(one["labelled"], one["n"], one["lost"]) for one in found["losses"]] == [
        (True, 5, 20.0),
        (False, 5, 0.0),
    ]


def test_unseen_images_without_a_label_are_tested_beside_labelled_ones() -> None:
    before = torch.zeros(200, dtype=torch.long)
    targets = before.clone()
    targets[1:] = -1
    after = before.clone()
    after[180:] = 1  # 10 percent of all, but 20 percent of the unseen half
    seen = torch.arange(200) < 100
    these = control(targets, budget=0.5, flip_budget=10.1, seen=seen, images=200)
    change = compare(these, before, after, significance=0.05)
    assert change.whole.flips == 10
    assert change.p_value < 0.05
    assert not change.within


def test_right_answers_gained_make_up_for_those_lost() -> None:
    after = BEFORE.clone()
    after[0], after[9] = 3, 0
    assert changed(control(torch.zeros(10, dtype=torch.long), budget=0), after).within


def test_the_unseen_part_is_reported_apart() -> None:
    seen = torch.arange(10) < 6
    after = BEFORE.clone()
    after[8] = 5
    change = changed(control(None, seen=seen), after)
    assert (change.whole.n, change.whole.flips) == (10, 10)
    assert (change.unseen.n, change.unseen.flips) == (4, 25)


def test_losses_hidden_by_training_images_are_refused() -> None:
    before = torch.zeros(200, dtype=torch.long)
    after = before.clone()
    after[180:] = 1  # 10 percent of all, but 20 percent of the unseen half
    these = control(None, budget=10, seen=torch.arange(200) < 100, images=200)
    change = compare(these, before, after, significance=0.05)
    assert change.whole.flips == 10
    assert change.p_value < 0.05
    assert not change.within
    everywhere = before.clone()
    everywhere[90:110] = 1
    assert compare(these, before, everywhere, significance=0.05).within


def test_parts_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidTask, match="'things' has 10 images, not 3"):
        control(torch.zeros(3, dtype=torch.long))
    with pytest.raises(InvalidTask, match="no images"):
        ControlSet("nothing", random_pixels(1)[:0], None, text_features(), 1.0)
