"""The study of heads, on a lab in miniature."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import record
from benchmark.head_choice import __main__ as command
from benchmark.head_choice.material import MATERIALS, digits, signs
from benchmark.head_choice.table import TrialsDiffer, markdown
from benchmark.head_choice.trial import CHOICES, PARTS, SERVICE, Result, Trial
from editing.methods import LorsuConfig, parse_config
from encoder.clip import Encoder, load_encoder
from tests.support.tiny_lab import tiny_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def base(lab: Path) -> Encoder:
    return load_encoder(str(lab / "base"))


def ask(
    monkeypatch: pytest.MonkeyPatch, lab: Path, out: Path, *more: str, at: str = "abc1234"
) -> int:
    monkeypatch.setattr(command, "check_out", lambda *_, **__: at)
    told = ["--lab", str(lab), "--encoder", str(lab / "base"), "--out", str(out), *more]
    few = ["--material", "signs", "--seeds", "1", "--shots", "1", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["head_choice", *few, *told])
    return command.main()


@pytest.mark.parametrize("name", MATERIALS)
def test_what_is_asked_is_not_taught(name: str, lab: Path, base: Encoder) -> None:
    material = MATERIALS[name](base, lab)
    taught = {each.numpy().tobytes() for each in material.pixels}
    assert not taught & {each.numpy().tobytes() for each in material.asked.pixels}
    counts = torch.bincount(material.asked.rows)
    assert len(set(counts.tolist())) == 1
    assert len(counts) == material.asked.text_features.shape[0]


def test_corrections_are_drawn_by_seed_and_balanced(lab: Path, base: Encoder) -> None:
    material = digits(base, lab)
    first, again, other = (material.corrections(3, seed) for seed in (0, 0, 1))
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
    assert torch.bincount(first.targets).tolist() == [3] * 10
    assert len(first.guard_pixels) == 0


def test_signs_are_cut_by_track(lab: Path, base: Encoder) -> None:
    material = signs(base, lab)
    assert len(material.pixels) == 7 * 3 * 2  # three of four tracks, two frames each
    assert len(material.asked.pixels) == 7 * 2


def test_all_choices_cost_the_same() -> None:
    configs = [
        Trial("digits", part, choice, 0, 10, 40, 0.01).config()
        for part in PARTS
        if part != SERVICE
        for choice in CHOICES
    ]
    assert {config.steps_for(images) for config in configs for images in (1, 100, 430)} == {40}
    assert {config.rate_for(100) for config in configs} == {1}
    assert {config.guard_weight for config in configs} == {0}


def test_the_last_part_is_the_service_at_the_papers_budgets(lab: Path, base: Encoder) -> None:
    trials = [Trial("signs", SERVICE, choice, 0, 2, steps, 0.01) for choice in CHOICES
              for steps in (1, 40)]  # fmt: skip
    paper = parse_config("lorsu", LorsuConfig.PAPER).model_dump()
    assert all(each.config().model_dump() == paper for each in trials)
    material = signs(base, lab)
    guarded = material.corrections(2, 0, guarded=True)
    assert guarded.guard_features is not None
    assert len(guarded.guard_pixels) == len(guarded.guard_features) == 6  # one a thing
    control = {each.numpy().tobytes() for each in material.control.pixels}
    assert not control & {each.numpy().tobytes() for each in guarded.guard_pixels}
    assert len(material.corrections(2, 0).guard_pixels) == 0


def test_the_command_runs_what_is_missing_and_prints_the_table(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, lab, tmp_path) == 0
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == len(PARTS) * len(CHOICES)
    told = json.loads(files[0].read_text())
    assert (told["commit"], told["trial"]["material"]) == ("abc1234", "signs")
    assert told["numbers"] > told["head_numbers"] > 0
    printed = capsys.readouterr().out
    assert len(printed.split("| heads alone |")) == len(CHOICES) + 1
    assert ask(monkeypatch, lab, tmp_path, "--table") == 0
    assert capsys.readouterr().out == printed[printed.index("| trained |") :]
    assert ask(monkeypatch, lab, tmp_path / "none", "--table") == 1
    assert "no results of signs" in capsys.readouterr().out
    files[0].unlink()
    kept = {path: path.read_text() for path in files[1:]}
    assert ask(monkeypatch, lab, tmp_path, at="def5678") == 0
    assert json.loads(files[0].read_text())["commit"] == "def5678"
    assert {path: path.read_text() for path in files[1:]} == kept
    assert ask(monkeypatch, lab, tmp_path, "--steps", "1") == 0
    others = {path for path in kept if path.read_text() != kept[path]}  # other facts, other results
    assert others == {path for path in kept if "as-the-service-does" not in path.name}
    capsys.readouterr()
    files[-1].write_text(kept[files[-1]])  # of other steps than the rest has now
    assert ask(monkeypatch, lab, tmp_path, "--table") == 1
    assert "different settings" in capsys.readouterr().out


def test_it_keeps_no_results_of_changed_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "state_of_code", lambda _: ("abc1234-dirty", "files have changed"))
    inside = record.REPOSITORY / "benchmark" / "results" / "nowhere"
    monkeypatch.setattr(sys, "argv", ["head_choice", "--lab", str(tmp_path), "--out", str(inside)])
    assert command.main() == 1
    assert "committed code only, and files have changed" in capsys.readouterr().out
    assert not inside.exists()


def test_it_says_what_of_the_lab_is_missing(
    tmp_path: Path, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.setattr(sys, "argv", ["head_choice", "--lab", str(tmp_path), "--allow-dirty"])
    monkeypatch.setattr(command, "load_encoder", lambda _: load_encoder(str(lab / "base")))
    assert command.main() == 1
    assert "pretrain.zip is missing" in capsys.readouterr().out


def result(choice: str, seed: int, target: float) -> Result:
    return Result(
        Trial("digits", "heads alone", choice, seed, 10, 40, 0.01),
        {"base": "digest", "config": {"rank": 4}}, "abc", 10.0, target,
        99.0, 41.0, 38.0, 20.0, 1234, 1300, {}, 0.5, 1.0,
    )  # fmt: skip


def test_differences_are_paired_by_seed() -> None:
    results = [result("lorsu", seed, 50.0 + 10 * seed) for seed in range(3)]
    results += [result("lowest_heads", seed, 49.0 + 10 * seed) for seed in range(3)]
    lines = markdown(results).splitlines()
    assert lines[2].startswith("| none | | | 10.0 |")
    assert "| 3 | 60.0 ± 10.0 |  | 99.0 ± 0.0 | 38.0 ± 0.0 | 20.0 ± 0.0 | 1,234 |" in lines[3]
    assert "| lowest two | 3 | 59.0 ± 10.0 | −1.0 ± 0.0 |" in lines[4]


@pytest.mark.parametrize(
    "change",
    [
        {"trial": Trial("digits", "heads alone", "lorsu", 1, 10, 2, 0.01)},
        {"trial": Trial("digits", "heads and fc1", "lorsu", 1, 5, 40, 0.01)},
        {"facts": {"base": "other", "config": {"rank": 4}}},
        {"facts": {"base": "digest", "config": {"rank": 8}}},
    ],
)
def test_results_of_other_settings_do_not_share_a_table(change: dict[str, Any]) -> None:
    results = [result("lorsu", 0, 50.0), replace(result("lorsu", 1, 50.0), **change)]
    with pytest.raises(TrialsDiffer, match=r"lorsu-seed1 and .*lorsu-seed0"):
        markdown(results)
