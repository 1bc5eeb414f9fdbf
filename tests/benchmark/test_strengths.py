"""One edit at many strengths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmark.strengths import (
    TENTHS,
    AtStrength,
    at_strengths,
    largest_within,
    main,
    smallest_that_fixes,
)
from editing.fewshot import EditTask
from editing.methods import Fit, fit
from encoder.clip import Encoder
from tests.support.edit_task import control_set, edit_task, quick_config
from tests.support.tiny_encoder import tiny_encoder
from tests.support.tiny_lab import tiny_lab

Edited = tuple[Encoder, EditTask, Fit]


@pytest.fixture(scope="module")
def edited() -> Edited:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3, 4, 0])
    return encoder, task, fit(encoder, task, quick_config(epochs=40), seed=0)


def told(edited: Edited, strengths: tuple[float, ...], budget: float = 100) -> list[AtStrength]:
    encoder, task, fitted = edited
    return at_strengths(
        encoder,
        fitted.deltas,
        task=task,
        validation=edit_task([0, 1, 2, 3], seed=5),
        controls=[control_set(encoder, budget=budget)],
        strengths=strengths,
    )


def test_nothing_changes_at_zero_and_all_is_right_at_one(edited: Edited) -> None:
    encoder, task, _ = edited
    none, whole = told(edited, (0.0, 1.0))
    before = (encoder.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)
    assert none.corrections == pytest.approx(percent(before == task.targets))
    assert [change.whole.flips for change in none.controls] == [0]
    assert whole.corrections == 100
    assert whole.controls[0].whole.flips > 0


def test_each_strength_is_the_encoder_with_that_much_of_the_edit(edited: Edited) -> None:
    encoder, task, fitted = edited
    (half,) = told(edited, (0.5,))
    deltas = {name: delta.scaled(0.5) for name, delta in fitted.deltas.items()}
    halfway = encoder.merged_deltas(deltas, label="half")
    answers = (halfway.embed_images(task.pixels) @ task.text_features.T).argmax(dim=1)
    assert half.corrections == pytest.approx(percent(answers == task.targets))
    unseen = edit_task([0, 1, 2, 3], seed=5)
    answers = (halfway.embed_images(unseen.pixels) @ unseen.text_features.T).argmax(dim=1)
    assert half.validation == pytest.approx(percent(answers == unseen.targets))
    control = control_set(encoder, budget=100)
    flipped = control.answers(halfway.embed_images(control.pixels)) != control.targets
    assert half.controls[0].whole.flips == pytest.approx(percent(flipped))


def test_what_fixes_and_what_is_within_the_budget(edited: Edited) -> None:
    points = told(edited, TENTHS, budget=0)
    fixing = smallest_that_fixes(points)
    assert fixing is not None
    assert fixing.corrections == 100
    assert all(each.corrections < 98 for each in points if each.strength < fixing.strength)
    kept = [each.strength for each in points if each.within]
    within = largest_within(points)
    assert (within and within.strength) == max(kept, default=None)
    assert not points[-1].within
    assert largest_within(told(edited, TENTHS)) == told(edited, TENTHS)[-1]


def test_an_edit_may_fix_nothing_and_keep_nothing(edited: Edited) -> None:
    assert smallest_that_fixes(told(edited, (0.0,))) is None
    assert largest_within(told(edited, (1.0,), budget=0)) is None


def test_every_strength_costs_one_look_at_each_photo(edited: Edited) -> None:
    encoder, task, fitted = edited
    phases: list[str] = []
    at_strengths(
        encoder,
        fitted.deltas,
        task=task,
        validation=task,
        controls=[control_set(encoder, budget=100)] * 2,
        strengths=(0.5, 1.0),
        progress=lambda phase, *_: phases.append(phase),
    )
    # The base's look at the controls; then corrections, validation and controls for each.
    assert len(phases) == 1 + 2 * 3


def test_it_is_told_as_json(edited: Edited) -> None:
    (point,) = told(edited, (1.0,))
    answer = point.to_json()
    assert (answer["strength"], answer["corrections"], answer["within"]) == (1, 100, True)
    assert answer["controls"][0]["name"] == "noise"


def test_the_command_fits_once_and_asks_at_every_tenth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = json.dumps({"min_steps": 60, "rounds": 1, "guard_weight": 0, "learning_rate": 0.02})
    told = ["--lab", str(tiny_lab(tmp_path / "lab")), "--out", str(tmp_path), "--shots", "2"]
    assert main([*told, "--config", quick]) == 0
    kept = json.loads((tmp_path / "strengths-defaults-seed0.json").read_text())
    assert [each["strength"] for each in kept["strengths"]] == [0.0, *TENTHS]
    none, whole = kept["strengths"][0], kept["strengths"][-1]
    assert [each["name"] for each in none["controls"]] == ["ten", "thousand", "wide"]
    assert {each["flips"] for each in none["controls"]} == {0}
    assert whole["corrections"] > none["corrections"]
    assert (kept["config"]["min_steps"], kept["shots"], kept["seed"]) == (60, 2, 0)
    assert len(capsys.readouterr().out.splitlines()) == len(kept["strengths"])

    assert main([*told, "--config", quick, "--name", "few", "--strengths", "0.5", "1"]) == 0
    few = json.loads((tmp_path / "strengths-few-seed0.json").read_text())
    assert few["strengths"] == [kept["strengths"][5], whole]


def test_the_command_takes_methods_of_the_benchmark(tmp_path: Path) -> None:
    told = ["--lab", str(tiny_lab(tmp_path / "lab")), "--out", str(tmp_path), "--shots", "1"]
    quick = {"min_steps": 10, "rounds": 1, "guard_weight": 0}
    asked = ["--name", "own", "--strengths", "1", "--method"]
    alike = {"layerwise_lorsu": {**quick, "layer_decay": 1}, "lorsu": quick}
    found = []
    for method, config in alike.items():
        assert main([*told, *asked, method, "--config", json.dumps(config)]) == 0
        found.append(json.loads((tmp_path / "strengths-own-seed0.json").read_text()))
    assert [each["method"] for each in found] == list(alike)
    assert found[0]["strengths"] == found[1]["strengths"]


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--lab", str(tmp_path / "none")], ["--config", "{"], ["--config", '{"a": 1}']):
        assert main([*wrong, "--out", str(tmp_path)]) == 1
        assert "stopped: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def percent(right: Tensor) -> float:
    return 100 * float(right.to(torch.float32).mean())
