"""An edit at no more strength than control sets bear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.bed import Bed
from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.metrics import flips
from benchmark.within import Limits, largest_kept
from editing.fewshot import EditTask
from editing.gate import GateConfig
from editing.methods import Fit, fit
from encoder.clip import load_encoder
from tests.support.edit_task import quick_method
from tests.support.tiny_lab import tiny_lab

NAME = "thousand"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    folder: Path = tiny_lab(tmp_path_factory.mktemp("lab"))
    return Bed(
        load_encoder(str(folder / "base")),
        load_lab(folder),
        load_lab_controls(folder),
        precision="fp32",
    )


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
    limit = flipped(bed, fitted, 1) - 1
    found = largest_kept(bed, bed.base, fitted, {NAME: Limits(flips=limit)})
    assert 0 < found < 1
    step = 1 / GateConfig().strength_steps
    assert flipped(bed, fitted, found) <= limit < flipped(bed, fitted, found + step)


def test_accuracy_may_be_limited_too(bed: Bed, fitted: Fit) -> None:
    """To what the base encoder answers, so that a flip loses a right answer."""
    sheet = bed.controls[NAME]
    right = Bed(bed.base, bed.data, {}, precision="fp32")
    right.controls[NAME] = replace(sheet, targets=bed.before[NAME])
    limit = flipped(bed, fitted, 1) - 1
    for limits in (Limits(lost=limit), Limits(flips=limit)):
        found = largest_kept(right, bed.base, fitted, {NAME: limits})
        assert found == largest_kept(bed, bed.base, fitted, {NAME: Limits(flips=limit)})


def test_all_of_an_edit_where_nothing_is_asked_of_it(bed: Bed, fitted: Fit) -> None:
    assert largest_kept(bed, bed.base, fitted, {NAME: Limits()}) == 1


def test_nothing_of_an_edit_on_top_of_what_keeps_no_limit(bed: Bed, fitted: Fit) -> None:
    parent = bed.base.merged_deltas(fitted.deltas, label="parent")
    assert largest_kept(bed, parent, fitted, {NAME: Limits(flips=0)}) == 0
