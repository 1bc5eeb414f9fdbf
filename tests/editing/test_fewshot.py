from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from editing.errors import InvalidTask, NoImages
from editing.fewshot import (
    ClassBalancedBatches,
    choose_guard,
)
from tests.support.edit_task import edit_task
from tests.support.tiny_encoder import random_pixels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_task_without_images_is_refused() -> None:
    with pytest.raises(NoImages):
        edit_task([])


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidTask, match="outside the 6 labels"):
        edit_task([0, 6])


def test_a_label_that_its_own_image_does_not_allow_is_refused() -> None:
    task = edit_task([0, 1])
    allowed = task.allowed.clone()
    allowed[1, 1] = False
    with pytest.raises(InvalidTask, match="own label"):
        replace(task, allowed=allowed)


def test_parts_of_different_lengths_are_refused() -> None:
    task = edit_task([0, 1])
    with pytest.raises(InvalidTask, match="3 images for 2 targets"):
        replace(task, pixels=random_pixels(3))
    with pytest.raises(InvalidTask, match="allowed"):
        replace(task, allowed=task.allowed[:1])
    with pytest.raises(InvalidTask, match="guard"):
        replace(task, guard_features=torch.zeros(1, 16))
    with pytest.raises(InvalidTask, match="uint8"):
        replace(task, pixels=task.pixels.float())


def test_guard_images_leave_half_of_every_control_set_unseen() -> None:
    sets = [range(100), range(100, 105), range(105, 145)]
    chosen = choose_guard(sets, count=256, seed=0)
    assert [len(positions) for positions in chosen] == [50, 2, 20]
    chosen = choose_guard(sets, count=30, seed=0)
    assert [len(positions) for positions in chosen] == [14, 2, 14]
    assert all(len(set(positions)) == len(positions) for positions in chosen)


def test_a_guard_image_of_several_control_sets_is_chosen_in_all_of_them() -> None:
    once, again = list(range(200)), list(range(199, -1, -1))
    chosen = choose_guard([once, again, [*range(100), *range(200, 300)]], count=256, seed=0)
    names = [{once[row] for row in chosen[0]}, {again[row] for row in chosen[1]}]
    assert names[0] == names[1]
    assert len(names[0]) <= 100
    assert len(chosen[2]) <= 100
    shared = {row for row in chosen[2] if row < 100}
    assert shared == {name for name in names[0] if name < 100}
    assert len(names[0]) + len(chosen[2]) - len(shared) > 140


def test_batches_show_every_class_equally_often() -> None:
    targets = torch.tensor([0] * 30 + [1] * 3 + [2] * 7)
    batches = ClassBalancedBatches(targets, 8, generator())
    seen = Counter(targets[torch.cat([batches.draw() for _ in range(30)])].tolist())
    assert seen == {0: 80, 1: 80, 2: 80}


def test_batches_use_every_image_of_a_class_before_repeating_one() -> None:
    batches = ClassBalancedBatches(torch.zeros(10, dtype=torch.long), 5, generator())
    first, second = batches.draw(), batches.draw()
    assert sorted(torch.cat([first, second]).tolist()) == list(range(10))


def test_a_batch_is_never_larger_than_the_task() -> None:
    assert len(ClassBalancedBatches(torch.tensor([3]), 16, generator()).draw()) == 1


def test_a_batch_of_two_holds_two_classes_where_there_are_two() -> None:
    batches = ClassBalancedBatches(torch.tensor([0, 0, 1, 2]), 2, generator())
    targets = torch.tensor([0, 0, 1, 2])
    assert all(len(set(targets[batches.draw()].tolist())) == 2 for _ in range(100))
