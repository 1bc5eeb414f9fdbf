"""The whole study on a lab in miniature: edits, questions, results, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.lab import Lab
from benchmark.vqa import __main__ as command
from benchmark.vqa import lab_study
from benchmark.vqa.lab_sets import (
    Amounts,
    sign_questions,
    sign_updates,
    thing_questions,
    validation_sign_questions,
    validation_updates,
)
from benchmark.vqa.lab_study import Editing
from benchmark.vqa.rows import ROWS, Row, get_row
from encoder.clip import load_encoder
from tests.support.tiny_encoder import state_bytes
from tests.support.tiny_lab import GROUPS, SIGNS, THINGS, tiny_lab, tiny_lab_vlm

EDITED = [row.name for row in ROWS if row.method is not None]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def vlm(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lab_vlm(lab, tmp_path_factory.mktemp("vlm"))


def run(
    monkeypatch: pytest.MonkeyPatch, lab: Path, vlm: Path | None, root: Path, *more: str
) -> int:
    told = ["vqa", "--lab", str(lab), "--work", str(root / "work"), "--out", str(root / "out")]
    told += ["--shots", "2", "--signs", "2", "--things", "2"]
    told += [] if vlm is None else ["--vlm", str(vlm)]
    monkeypatch.setattr("sys.argv", [*told, *more])
    return command.main()


def results(root: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (root / "out").glob("*.json")}


def test_every_method_is_asked_in_the_vlm(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lab: Path,
    vlm: Path,
    tmp_path: Path,
) -> None:
    assert run(monkeypatch, lab, vlm, tmp_path, "--seeds", "0", "1") == 0
    found = results(tmp_path)
    assert set(found) == {"zero-shot-seed0"} | {f"{n}-seed{s}" for n in EDITED for s in (0, 1)}
    asked = {(run["target"]["digest"], run["control"]["digest"]) for run in found.values()}
    assert len(asked) == 1
    for told in found.values():
        assert told["target"]["questions"] == 2 * len(SIGNS) == len(told["target"]["chosen"])
        assert told["control"]["questions"] == 2 * len(THINGS)
        assert 0 <= told["target"]["accuracy"] <= 100
    for name in EDITED:
        cost = found[f"{name}-seed0"]["cost"]
        assert cost["steps"] > 0
        assert cost["parameters"] > 0
    table = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][1:] == [
        f"| {row.title}" for row in ROWS
    ]


def test_a_study_goes_on_where_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, lab: Path, vlm: Path, tmp_path: Path
) -> None:
    fitted: list[int] = []
    fit = lab_study.continual

    def counted(*args: Any, **named: Any) -> Any:
        fitted.append(named["seed"])
        return fit(*args, **named)

    monkeypatch.setattr(lab_study, "continual", counted)
    rows = ("--rows", "zero-shot", "lorsu", "--seeds", "0", "1")
    # Edits without a VLM, then the same with one, then a result that got lost.
    assert run(monkeypatch, lab, None, tmp_path, *rows) == 0
    assert fitted == [0, 1]
    assert run(monkeypatch, lab, vlm, tmp_path, *rows) == 0
    whole = results(tmp_path)
    (tmp_path / "out" / "lorsu-seed1.json").unlink()
    (tmp_path / "out" / "lorsu-seed0.part").write_text("{")  # what a kill leaves behind
    assert run(monkeypatch, lab, vlm, tmp_path, *rows) == 0
    assert results(tmp_path) == whole
    assert fitted == [0, 1]
    # Other shots are another study.
    assert (
        run(monkeypatch, lab, None, tmp_path, "--rows", "lorsu", "--seeds", "0", "--shots", "1")
        == 0
    )
    assert fitted == [0, 1, 0]


def test_an_edit_is_kept_as_it_was_and_the_base_is_untouched(lab: Path, tmp_path: Path) -> None:
    editing = Editing(Lab(lab), load_encoder(str(lab / "base")), tmp_path, shots=2)
    before = state_bytes(editing.base.model)
    fresh, cost = editing.edit(get_row("full-finetune"), 3)
    kept, kept_cost = editing.edit(get_row("full-finetune"), 3)
    assert state_bytes(kept.model) == state_bytes(fresh.model) != before
    assert (kept.digest, kept_cost) == (fresh.digest, cost)
    assert state_bytes(editing.base.model) == before


def test_seeds_draw_other_shots_and_questions_stay(lab: Path) -> None:
    opened, base = Lab(lab), load_encoder(str(lab / "base"))
    first, again, other = (sign_updates(opened, base, shots=2, seed=s) for s in (0, 0, 1))
    assert [each.targets.tolist() for each in first] == [
        [int(key) for key in group for _ in range(2)] for group in GROUPS
    ]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))


def test_questions_are_of_the_splits_that_no_edit_sees(lab: Path) -> None:
    opened, base = Lab(lab), load_encoder(str(lab / "base"))
    amounts = Amounts(signs=8, things=3)
    everything = sign_updates(opened, base, shots=100, seed=0)
    taught = {pixels.numpy().tobytes() for each in everything for pixels in each.pixels}
    assert len(taught) == 7 * 8
    test = [question.image_bytes() for question in sign_questions(opened, amounts)]
    assert len(test) == 7 * 8
    assert not taught & {pixels_of(base, file) for file in test}
    fitting = validation_updates(opened, base, shots=100, seed=0)
    validated = validation_sign_questions(opened, amounts)
    assert not {p.numpy().tobytes() for each in fitting for p in each.pixels} & {
        pixels_of(base, question.image_bytes()) for question in validated
    }
    assert {question.options[question.answer] for question in validated} == set(SIGNS.values())
    things = thing_questions(opened, amounts)
    assert len(things) == 6 * 3
    assert {option for each in things for option in each.options} == set(THINGS.values())


def pixels_of(base: Any, file: bytes) -> bytes:
    from benchmark.vqa.lab_sets import to_pixels

    return bytes(to_pixels(base, [file])[0].numpy().tobytes())


def test_a_row_without_a_method_has_no_config() -> None:
    with pytest.raises(ValueError, match="edits nothing"):
        get_row("zero-shot").config()
    assert all(isinstance(row, Row) for row in ROWS)
    for name in EDITED:
        get_row(name).config()  # valid


@pytest.mark.parametrize("missing", ["lab", "vlm"])
def test_what_is_missing_ends_the_command_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lab: Path,
    vlm: Path,
    tmp_path: Path,
    missing: str,
) -> None:
    nowhere = tmp_path / "nowhere"
    at = {"lab": lab, "vlm": vlm} | {missing: nowhere}
    assert run(monkeypatch, at["lab"], at["vlm"], tmp_path) == 1
    told = capsys.readouterr().err
    assert told.startswith("the study stopped: ")
    assert str(nowhere) in told
    assert told.count("\n") == 1


def test_an_edit_through_answers_needs_a_vlm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lab: Path, tmp_path: Path
) -> None:
    assert run(monkeypatch, lab, None, tmp_path, "--rows", "lorsu-likelihood") == 1
    assert "lorsu-likelihood is edited through the answers of a VLM" in capsys.readouterr().err


def test_step_sizes_are_tried_on_train_tracks_only(
    monkeypatch: pytest.MonkeyPatch, lab: Path, vlm: Path, tmp_path: Path
) -> None:
    told = ("--rows", "lorsu", "--seeds", "0", "--validate", "0.1", "1")
    assert run(monkeypatch, lab, vlm, tmp_path, *told) == 0
    assert results(tmp_path) == {}
    tried = {
        path.stem: json.loads(path.read_text())
        for path in (tmp_path / "out" / "validation").glob("*.json")
    }
    assert set(tried) == {"zero-shot-seed0", "lorsu-x0.1-seed0", "lorsu-x1-seed0"}
    rates = [tried[f"lorsu-x{f}-seed0"]["facts"]["config"] for f in ("0.1", "1")]
    assert rates[0]["fc1_learning_rate"] == pytest.approx(rates[1]["fc1_learning_rate"] / 10)
    assert rates[0]["learning_rate"] == pytest.approx(rates[1]["learning_rate"] / 10)
    assert rates[0]["epochs"] == rates[1]["epochs"]
    assert run(monkeypatch, lab, vlm, tmp_path, "--rows", "zero-shot", "--seeds", "0") == 0
    asked = results(tmp_path)["zero-shot-seed0"]["target"]["digest"]
    assert asked != tried["zero-shot-seed0"]["target"]["digest"]
