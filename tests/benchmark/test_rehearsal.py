"""The rehearsal's cut, its arithmetic, and two whole jobs on a tiny encoder."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.jobs import Bed, Signs, cut_by_track, load_bed, percent_right
from benchmark.lab import Files, Lab
from benchmark.rehearsal import main, rehearse
from encoder.clip import Encoder
from tests.support.edit_task import LABELS, control_set, quick_config, text_features
from tests.support.tiny_encoder import random_pixels, tiny_encoder
from tests.support.tiny_lab import tiny_lab

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))


def class_of(tracks: int, *, frames: int = 3) -> Files:
    """A class's files; each one's contents are the name of its track."""
    return [
        (f"00_{track:05}_{frame:05}.png", f"00_{track:05}".encode())
        for track in range(tracks)
        for frame in range(frames)
    ]


def tiny_bed(*, jobs: int = 2, photos: int = 6) -> Bed:
    """Each job's photos are of all labels once; half of one control set is guarded."""
    base = tiny_encoder()
    labels = torch.arange(photos) % LABELS
    control = control_set(base, budget=100)
    control = replace(
        control,
        seen=torch.arange(len(control.pixels)) % 2 == 0,
        base_features=base.embed_images(control.pixels),
    )
    return Bed(
        base=base,
        texts=text_features(),
        batches=[Signs(random_pixels(photos, seed=job), labels) for job in range(jobs)],
        validation=Signs(random_pixels(photos, seed=20), labels),
        controls=[control],
        wide=replace(control, name="wide"),
    )


@pytest.mark.parametrize("tracks", [2, 3, 10])
@pytest.mark.parametrize("seed", range(5))
def test_the_cut_never_splits_a_track_and_leaves_one_on_each_side(tracks: int, seed: int) -> None:
    fitting, validation = cut_by_track(class_of(tracks), seed=seed)
    assert not set(fitting) & set(validation)
    assert len(fitting) + len(validation) == 3 * tracks
    assert len(set(validation)) == max(1, round(0.3 * tracks))


def test_a_single_track_is_fitted() -> None:
    assert cut_by_track(class_of(1), seed=0) == ([b"00_00000"] * 3, [])


def test_the_cut_is_drawn_by_the_seed() -> None:
    files = class_of(10)
    cuts = [cut_by_track(files, seed=seed) for seed in (1, 1, 2)]
    assert cuts[0] == cuts[1] != cuts[2]


@pytest.mark.skipif(not LAB.exists(), reason=f"no lab folder at {LAB} (set EMEND_LAB)")
def test_every_sign_class_of_the_lab_can_be_cut() -> None:
    classes = Lab(LAB).signs("train")
    assert len(classes) == 43
    for files in classes.values():
        named = [(name, name.encode()) for name, _ in files]
        parts = [{name.rsplit(b"_", 1)[0] for name in part} for part in cut_by_track(named, seed=0)]
        assert all(parts)
        assert not parts[0] & parts[1]


def test_signs_are_picked_and_joined_in_order() -> None:
    first = Signs(random_pixels(3, seed=0), torch.tensor([4, 5, 6]))
    second = Signs(random_pixels(2, seed=1), torch.tensor([7, 8]))
    joined = first + second
    assert joined.targets.tolist() == [4, 5, 6, 7, 8]
    assert torch.equal(joined.at([3, 0]).pixels, torch.stack([second.pixels[0], first.pixels[0]]))
    assert joined.at([3, 0]).targets.tolist() == [7, 4]
    assert len(first.at([]).targets) == 0


def test_a_task_knows_what_is_new_and_guards_what_is_seen() -> None:
    bed = tiny_bed()
    control = bed.controls[0]
    assert control.seen is not None
    assert control.base_features is not None
    new, earlier = bed.batches
    task = bed.task(new, earlier.at([0, 2]))
    assert task.new.tolist() == [True] * 6 + [False] * 2
    assert task.targets.tolist() == [0, 1, 2, 3, 4, 5, 0, 2]
    assert bool(task.allowed.all())
    assert torch.equal(task.guard_pixels, control.pixels[control.seen])
    assert task.guard_features is not None
    assert torch.equal(task.guard_features, control.base_features[control.seen])


def test_percent_right_counts_own_labels() -> None:
    encoder, texts = tiny_encoder(), text_features()
    pixels = random_pixels(4)
    answers = answered(encoder, pixels)
    answers[0] = (answers[0] + 1) % LABELS
    assert percent_right(encoder, Signs(pixels, answers), texts) == 75.0


def answered(encoder: Encoder, pixels: torch.Tensor) -> torch.Tensor:
    return (encoder.embed_images(pixels) @ text_features().T).argmax(dim=1)


@pytest.mark.parametrize(("room", "fitted_on", "stacked"), [(12, 12, False), (8, 8, True)])
def test_a_second_job_is_fitted_again_from_the_base_or_stacked_when_there_is_no_room(
    capsys: pytest.CaptureFixture[str], room: int, fitted_on: int, stacked: bool
) -> None:
    config = quick_config(epochs=60, max_images=room)
    first, second = rehearse(tiny_bed(), config, jobs=2, seed=0)
    assert (first["fitted_on"], first["stacked"]) == (6, False)
    assert (first["verdict"], first["corrections"]["after"]) == ("promoted", 100)
    assert (second["fitted_on"], second["stacked"]) == (fitted_on, stacked)
    assert second["earlier"]["n"] == 6
    assert 0 <= second["validation_taught"] == second["validation_all"] <= 100
    assert capsys.readouterr().out.count("promoted") >= 1


@pytest.mark.parametrize(
    ("config", "named"), [('{"rnak": 8}', "rnak"), ('{"rank": 0}', "rank"), ("{", "line 1")]
)
def test_a_wrong_config_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: str, named: str
) -> None:
    monkeypatch.setattr("sys.argv", ["rehearsal", "--config", config])
    assert main() == 1
    said = capsys.readouterr().out
    assert said.startswith("rehearsal stopped: ")
    assert named in said
    assert said.count("\n") == 1


def test_a_missing_lab_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["rehearsal", "--lab", str(tmp_path), "--out", str(tmp_path)])
    assert main() == 1
    assert str(tmp_path) in capsys.readouterr().out


QUICK = json.dumps({"min_steps": 4, "epochs": 1, "rounds": 1, "guard_batch_size": 2})


def command(monkeypatch: pytest.MonkeyPatch, root: Path, out: str, *told: str) -> dict[str, Any]:
    folders = ["--lab", str(root / "lab"), "--out", str(root / out), "--work", str(root / "work")]
    options = ["--updates", "3", "--shots", "2", "--config", QUICK, *told]
    monkeypatch.setattr("sys.argv", ["rehearsal", *folders, *options])
    assert main() == 0
    found: dict[str, Any] = json.loads((root / out / "rehearsal-defaults-seed0.json").read_text())
    return found


def unclocked(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in job.items() if k != "seconds"} for job in told["jobs"]]


def test_a_killed_rehearsal_goes_on_after_its_last_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_lab(tmp_path / "lab")
    whole = command(monkeypatch, tmp_path, "whole")
    assert [job["job"] for job in whole["jobs"]] == [1, 2, 3]
    assert len(command(monkeypatch, tmp_path, "out", "--jobs", "2")["jobs"]) == 2
    capsys.readouterr()
    resumed = command(monkeypatch, tmp_path, "out")
    said = capsys.readouterr().out
    assert "goes on after job 2" in said
    assert len(re.findall(r"job \d \w+ at", said)) == 1
    assert unclocked(resumed) == unclocked(whole)


def test_a_rehearsal_of_other_settings_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_lab(tmp_path / "lab")
    command(monkeypatch, tmp_path, "out", "--jobs", "1")
    assert command(monkeypatch, tmp_path, "out", "--jobs", "1", "--shots", "1")["shots"] == 1
    assert "goes on" not in capsys.readouterr().out


def test_the_classes_come_in_as_many_jobs_as_are_wanted(tmp_path: Path) -> None:
    lab = Lab(tiny_lab(tmp_path))
    five, many = (load_bed(lab, shots=4, seed=0, updates=updates) for updates in (2, 14))
    assert [len(batch.targets) for batch in five.batches] == [16, 12]
    assert [len(batch.targets) for batch in many.batches] == [2] * 14
    photos = [
        {picture.numpy().tobytes() for batch in bed.batches for picture in batch.pixels}
        for bed in (five, many)
    ]
    assert photos[0] == photos[1]
    assert torch.equal(five.validation.pixels, many.validation.pixels)
