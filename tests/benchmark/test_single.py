"""Single corrections on a lab in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.bed import Bed
from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.single import main, summary, wrong_ones
from encoder.clip import load_encoder
from tests.support.tiny_lab import tiny_lab

QUICK = json.dumps({"min_steps": 6, "rounds": 1, "guard_batch_size": 2, "learning_rate": 0.01})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lab(tmp_path_factory.mktemp("lab"))


def run(lab: Path, out: Path, *told: str) -> int:
    return main(["--lab", str(lab), "--out", str(out), "--config", QUICK, *told])


def kept(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "single-defaults-seed0.json").read_text())
    return found


def test_photos_that_the_base_gets_wrong_are_corrected_one_by_one(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lab, tmp_path, "--count", "2") == 0
    told = kept(tmp_path)
    first, second = told["corrections"]
    assert first["label"] != second["label"]
    for each in told["corrections"]:
        assert each["steps"] >= 6
        assert each["classmates"] == 6  # two frames of each of three other tracks
        assert set(each["controls"]) == {"ten", "thousand", "wide"}
        assert {name for name, told in each["controls"].items() if "unseen_flips" in told} == {
            "ten",
            "thousand",
        }
    assert told["summary"]["corrections"] == 2
    assert told["facts"]["config"]["min_steps"] == 6
    capsys.readouterr()
    assert run(lab, tmp_path, "--count", "2") == 0
    assert " after " not in capsys.readouterr().out  # all of it was kept
    assert kept(tmp_path) == told


def test_a_killed_run_goes_on(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lab, tmp_path, "--count", "2") == 0
    whole, path = kept(tmp_path), tmp_path / "single-defaults-seed0.json"
    path.write_text(json.dumps({**whole, "corrections": whole["corrections"][:1]}))
    capsys.readouterr()
    assert run(lab, tmp_path, "--count", "2") == 0
    assert capsys.readouterr().out.count(" after ") == 1
    assert kept(tmp_path)["corrections"] == whole["corrections"]


def test_a_run_of_other_code_is_begun_anew(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lab, tmp_path, "--count", "2") == 0
    whole, path = kept(tmp_path), tmp_path / "single-defaults-seed0.json"
    path.write_text(json.dumps({**whole, "code": "0", "corrections": whole["corrections"][:1]}))
    capsys.readouterr()
    assert run(lab, tmp_path, "--count", "2") == 0
    assert capsys.readouterr().out.count(" after ") == 2
    assert kept(tmp_path) == whole


def test_only_wrong_answers_are_corrected_a_class_each(lab: Path) -> None:
    base = load_encoder(str(lab / "base"))
    bed = Bed(base, load_lab(lab), load_lab_controls(lab))
    photos = wrong_ones(bed, 99, seed=0)
    assert len({photo.label for photo in photos}) == len(photos) >= 2
    for photo in photos:
        pixels = base.preprocessing.to_pixels(photo.open())[None]
        assert int((base.embed_images(pixels) @ bed.target.texts.T).argmax()) != photo.label


def test_a_summary_counts_and_averages() -> None:
    def one(*, fixed: bool, after: float, flips: float) -> dict[str, Any]:
        return {
            "fixed": fixed,
            "verdict": "promoted" if fixed else "refused",
            "classmates_before": 50.0,
            "classmates_after": after,
            "controls": {"ten": {"change": -flips, "flips": flips}},
        }

    told = summary([one(fixed=True, after=70, flips=1), one(fixed=False, after=40, flips=3)])
    assert told == {
        "corrections": 2,
        "fixed": 1,
        "promoted": 1,
        "classmates_worse": 1,
        "classmates_gain": 5,
        "controls": {"ten": {"change": -2, "flips": 2, "most_flips": 3}},
    }


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (["--lab", "nowhere"], "nowhere"),
        (["--config", "{"], "stopped"),
        (["--count", "0"], "nothing"),
    ],
)
def test_what_cannot_be_is_told(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str], sentence: str
) -> None:
    assert run(lab, tmp_path, *told) == 1
    assert sentence in capsys.readouterr().err
