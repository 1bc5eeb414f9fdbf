"""An edit at no more strength than control sets bear."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.bed import Bed
from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.metrics import flips
from benchmark.within import TWENTIETHS, Limits, largest_kept
from editing.fewshot import EditTask
from editing.methods import Fit, fit
from encoder.clip import load_encoder
from tests.support.edit_task import quick_method
from tests.support.tiny_lab import tiny_lab

NAME = "thousand"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    folder: Path = tiny_lab(tmp_path_factory.mktemp("lab"))
    return Bed(load_encoder(str(folder / "base")), load_lab(folder), load_lab_controls(folder))


@pytest.fixture(scope="module")
def fitted(bed: Bed) -> Fit:
    """An edit that changes many other answers."""
    [lesson] = bed.lessons(updates=1, shots=1, seed=0)
    count = len(lesson.targets)
    task = EditTask(
        pixels=lesson.pixels,
        targets=lesson.targets,
        allowed=torch.ones(count, len(bed.target.prompts), dtype=torch.bool),
        text_features=bed.target.texts,
        new=torch.ones(count, dtype=torch.bool),
        guard_pixels=lesson.pixels[:0],
    )
    config = quick_method("full_finetune", epochs=5, learning_rate=0.01, guard_weight=0)
    return fit(bed.base, task, config, seed=0)


def flipped(bed: Bed, fitted: Fit, strength: float) -> float:
    encoder = bed.base.merged_deltas(fitted.at(strength), label="edited")
    return flips(bed.before[NAME], bed.ask(encoder, [bed.controls[NAME]])[NAME])


def test_the_largest_strength_that_keeps_the_limits(bed: Bed, fitted: Fit) -> None:
    changed = {strength: flipped(bed, fitted, strength) for strength in TWENTIETHS}
    assert changed[1.0] > changed[0.05]
    limit = changed[1.0] - 1
    found = largest_kept(bed, bed.base, fitted, {NAME: Limits(flips=limit)})
    assert found == max(each for each, told in changed.items() if told <= limit)
    assert 0 < found < 1


def test_all_of_an_edit_where_nothing_is_asked_of_it(bed: Bed, fitted: Fit) -> None:
    assert largest_kept(bed, bed.base, fitted, {NAME: Limits()}) == 1


def test_nothing_of_an_edit_that_no_strength_excuses(bed: Bed, fitted: Fit) -> None:
    shifted = {name: (answers + 1) % 2 for name, answers in bed.before.items()}
    bed_of_others = Bed(bed.base, bed.data, {})
    bed_of_others.controls, bed_of_others.before = bed.controls, shifted
    assert largest_kept(bed_of_others, bed.base, fitted, {NAME: Limits(flips=0)}) == 0


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (Limits(lost=25), True),
        (Limits(lost=24.9), False),
        (Limits(flips=50), True),
        (Limits(flips=49.9), False),
        (Limits(lost=25, flips=49.9), False),
    ],
)
def test_limits_are_of_losses_and_of_other_answers(limits: Limits, kept: bool) -> None:
    """One right answer of four is lost, and one wrong one is another wrong one."""
    targets = torch.tensor([0, 1, 2, 3])
    before, after = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 0, 1])
    assert limits.kept(before, after, targets) is kept
