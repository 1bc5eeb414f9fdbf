"""Whole studies on a lab in miniature: runs, records, going on after a kill, refusals."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest

from benchmark import record, run
from benchmark.experiment import load_study
from benchmark.record import REPOSITORY, RecordStore, check_out, code_digest, state_of_code
from benchmark.run import main
from benchmark.runner import Run
from benchmark.table import tables
from tests.support.studies import LITTLE, arguments, kept
from tests.support.tiny_lab import tiny_lab
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lab(tmp_path_factory.mktemp("lab"))


def test_a_study_makes_a_record_of_every_method(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(lab, tmp_path, "lab-continual", *LITTLE)) == 0
    records = kept(tmp_path, "lab-continual")
    assert set(records) == {f"{each.name}-2x2-seed0" for each in load_study("lab-continual")}
    for name, told in records.items():
        assert told["libraries"]["torch"]
        assert told["commit"] == state_of_code()[0]
        assert set(told["controls"]) == {"lab/ten", "lab/thousand", "lab/wide"}
        if name.startswith("zero-shot"):
            assert told["updates"] == []
            assert told["target"]["before"] == told["target"]["after"]
            continue
        assert {tuple(row["controls"]) for row in told["updates"]} == {("lab/ten", "lab/thousand")}
        assert [len(row["tasks"]) for row in told["updates"]] == [2, 2]
        assert min(row["steps"] for row in told["updates"]) >= 1
        assert min(told["parameters"], told["step_flops"], told["peak_memory"]) > 0
        assert told["facts"]["config"]["loss"] == "contrastive"
        assert 0 <= told["reliability"] <= 100
    # What full fine-tuning's backward pass costs more than that of a few heads.
    assert records["full-finetune-2x2-seed0"]["step_flops"] > records["spu-2x2-seed0"]["step_flops"]
    shown = tables(RecordStore(tmp_path / "out").all("lab-continual,epochs=1"))
    assert all(each.title in shown for each in load_study("lab-continual"))
    capsys.readouterr()
    assert main(arguments(lab, tmp_path, "lab-continual", *LITTLE)) == 0
    assert capsys.readouterr().out.count("kept:") == len(records)


def test_every_recipe_for_the_service_runs(lab: Path, tmp_path: Path) -> None:
    refits = [each.name for each in load_study("lab-default") if each.protocol == "refit"]
    told = ["lab-default", *refits, "--shots", "2", "--epochs", "1", "--seeds", "0"]
    assert main(arguments(lab, tmp_path, *told)) == 0
    records = kept(tmp_path, "lab-default")
    assert len(records) == len(refits) > 5
    guarded = {name for name, told in records.items() if told["facts"]["guard"]}
    assert guarded
    plain, other = records["e-refit-2x1-seed0"], records["f-guard-2x1-seed0"]
    assert plain["target"]["digest"] == other["target"]["digest"]
    assert plain["updates"][0]["loss"] != other["updates"][0]["loss"]
    # Half of the ten-way set's six photos a class held the edit back: they count apart.
    assert plain["unseen"] == {}
    assert {name: each["photos"] for name, each in other["unseen"].items()} == {
        "lab/ten": 6,
        "lab/thousand": 6,
    }
    assert other["controls"]["lab/ten"]["photos"] == 12
    whole, limited = (
        records[f"{name}-2x1-seed0"] for name in ("n-service", "n-service-within-budgets")
    )
    assert [row["strength"] for row in whole["updates"]] == [1]
    [row] = limited["updates"]
    assert row["strength"] < 1
    flipped = [told["controls"]["lab/thousand"]["flips"] for told in (limited, whole)]
    assert flipped[0] < flipped[1]


def test_another_setting_is_another_run_and_leaves_the_first_alone(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = arguments(lab, tmp_path, "lab-continual", "layernorm", *LITTLE)
    assert main(told) == 0
    assert main([*told, "--epochs", "2"]) == 0
    assert main([*told, "--controls", "lab/ten"]) == 0
    assert "kept:" not in capsys.readouterr().out
    files = sorted((tmp_path / "out").glob("*/layernorm-2x2-seed0.json"))
    assert [path.parent.name for path in files] == [
        "lab-continual,epochs=1",
        "lab-continual,epochs=1,controls=lab-ten",
        "lab-continual,epochs=2",
    ]
    epochs = [json.loads(path.read_text())["facts"]["config"]["epochs"] for path in files]
    assert epochs == [1, 1, 2]


def test_a_kept_run_of_other_training_photos_is_made_again(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "lab"
    shutil.copytree(lab, mine)
    told = arguments(mine, tmp_path, "lab-continual", "layernorm", *LITTLE)
    assert main(told) == 0
    rename_training_photo(mine / "gtsrb.zip")
    capsys.readouterr()
    assert main(told) == 0
    assert "kept:" not in capsys.readouterr().out


def rename_training_photo(archive: Path) -> None:
    with zipfile.ZipFile(archive) as old:
        photos = {name: old.read(name) for name in old.namelist()}
    first = next(name for name in photos if name.startswith("train/"))
    photos[f"{first.removesuffix('.png')}9.png"] = photos.pop(first)
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in photos.items():
            new.writestr(name, data)


def test_a_damaged_state_is_not_gone_on_from(lab: Path, tmp_path: Path) -> None:
    told = arguments(lab, tmp_path, "lab-refit", "layernorm", *LITTLE)
    assert main(told) == 0
    [whole] = kept(tmp_path, "lab-refit").values()
    for path in (tmp_path / "out").glob("*/*.json"):
        path.unlink()
    [snapshot] = (tmp_path / "work").glob("**/layernorm-2x2-seed0.safetensors")
    snapshot.write_bytes(b"killed while this was written")
    assert main(told) == 0
    [again] = kept(tmp_path, "lab-refit").values()
    assert again["target"] == whole["target"]


def test_two_processes_do_not_make_the_same_run(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = arguments(lab, tmp_path, "lab-continual", "layernorm", *LITTLE)
    folder = tmp_path / "work" / code_digest() / "lab-continual,epochs=1"
    folder.mkdir(parents=True)
    with (folder / "layernorm-2x2-seed0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(told) == 1
    assert "another process makes layernorm-2x2-seed0" in capsys.readouterr().err


def test_code_has_a_name_of_its_own_committed_or_not(tmp_path: Path) -> None:
    (tmp_path / "editing").mkdir()
    (tmp_path / "editing" / "trainer.py").write_text("x = 1\n")
    first = code_digest(tmp_path)
    assert code_digest(tmp_path) == first
    (tmp_path / "editing" / "trainer.py").write_text("x = 2\n")
    assert code_digest(tmp_path) != first


def test_an_interrupted_study_says_how_it_goes_on(
    lab: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "make", interrupted)
    assert main(arguments(lab, tmp_path, "lab-continual", "layernorm", *LITTLE)) == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["lab-refit", "lab-offline"])
def test_other_protocols_run(lab: Path, tmp_path: Path, protocol: str) -> None:
    told = ["lorsu", "--seeds", "1", "--epochs", "1"]
    assert main(arguments(lab, tmp_path, protocol, *told)) == 0
    [found] = kept(tmp_path, protocol).values()
    images = 7 * 8  # of seven signs all, where there are not twenty
    assert [row["images"] for row in found["updates"]] == [images]


def test_a_refit_starts_from_the_base_on_everything_so_far(lab: Path, tmp_path: Path) -> None:
    told = ["lorsu", "--seeds", "0", "--shots", "2", "--epochs", "1", "--updates"]
    assert main(arguments(lab, tmp_path, "lab-refit", *told, "2")) == 0
    assert main(arguments(lab, tmp_path, "lab-refit", *told, "1")) == 0
    records = kept(tmp_path, "lab-refit")
    two, one = records["lorsu-2x2-seed0"], records["lorsu-2x1-seed0"]
    assert [row["images"] for row in two["updates"]] == [8, 14]
    assert two["target"] == one["target"]
    assert two["controls"] == one["controls"]
    assert two["updates"][1]["loss"] == one["updates"][0]["loss"]


def test_a_killed_run_goes_on_after_its_last_update(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["lab-refit", "lora", "--shots", "2", "--updates", "7", "--seeds", "0"]
    command = [sys.executable, "-m", "benchmark.run", *arguments(lab, tmp_path, *told)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    try:
        rows = wait_for(
            lambda: next((tmp_path / "work").glob("**/*.rows.json"), None),
            seconds=120,
            what="the first update",
        )
    finally:
        process.kill()
        process.wait(timeout=30)
    done = len(json.loads(rows.read_text())["rows"])
    assert 1 <= done <= 7
    assert main(arguments(lab, tmp_path, *told)) == 0
    assert f"goes on after update {done}" in capsys.readouterr().out
    elsewhere = tmp_path / "whole"
    assert main(arguments(lab, elsewhere, *told)) == 0
    [resumed], [whole] = (kept(root, "lab-refit").values() for root in (tmp_path, elsewhere))
    for what in ("target", "controls", "reliability"):
        assert resumed[what] == whole[what]
    assert [row["tasks"] for row in resumed["updates"]] == [r["tasks"] for r in whole["updates"]]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (["lab-strange"], "no study 'lab-strange'"),
        (["lab-continual", "magic"], "no experiment of lab-continual 'magic'"),
        (["lab-continual", "lorsu", "--shots", "-1"], "shots"),
        (["lab-continual", "--place", "lab"], "name=folder"),
        (["lab-continual", "--place", "lab=nowhere"], "nowhere"),
        (["lab-continual", "--controls", "moon"], "--place moon=<folder>"),
        (["lab-continual", "--controls", "lab/moon"], "no data set 'lab/moon', only lab/ten"),
        (["lab-continual", "--controls", "lab/ten", "lorsu"], "'lorsu' is an experiment"),
        (["lab-continual", "lorsu", "--updates", "0"], "updates"),
        (["lab-offline", "lorsu", "--updates", "5"], "offline is one update, not 5"),
        (["lab-default", "f-guard", "--controls", "lab/wide"], "guard 'lab/ten' is not among"),
        (["lab-continual", "lorsu", "--data", "lab/ten", "--validate", "1"], "no photos to ask"),
        (["lab-continual", "lora", "zero-shot", "--validate", "1", "-1"], "learning_rate"),
        (["lab-continual", "lorsu", "--data", "lab/ten"], "update 1 has no photos to teach"),
        (["lab-stream", "lorsu", "--shots", "1", "--updates", "8"], "update 1 has no photos"),
        (["lab-continual", "--data", "gtsrb", "--place", "gtsrb=nowhere"], "looked for nowhere"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str], sentence: str
) -> None:
    places = ["--place", f"lab={lab}"] if "--place" not in told else []
    assert main([*told, *places, "--out", str(tmp_path)]) == 1
    problem = capsys.readouterr().err
    assert problem.startswith("the study stopped: ")
    assert sentence in problem


def test_a_folder_that_takes_no_results_is_told_before_any_work(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert main(arguments(lab, tmp_path, "lab-continual", "lorsu", *LITTLE)) == 1
    assert "out" in capsys.readouterr().err
    assert not list((tmp_path / "work").glob("**/*.rows.json"))


def test_results_of_changed_code_stay_out_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = repository(tmp_path)
    results = tree / "benchmark/results/paper"
    assert check_out(results, allow_dirty=False, root=tree) == state_of_code(tree)[0]
    results.mkdir(parents=True)
    (results / "one.json").write_text("{}")  # results themselves are no change
    assert state_of_code(tree)[1] is None
    (tree / "code.py").write_text("x = 2\n")
    assert check_out(tmp_path / "elsewhere", allow_dirty=False, root=tree).endswith("-dirty")
    assert check_out(results, allow_dirty=True, root=tree).endswith("-dirty")
    with pytest.raises(record.DirtyTree, match="has changes"):
        check_out(results, allow_dirty=False, root=tree)

    monkeypatch.setattr(run, "check_out", partial(check_out, root=tree))
    assert main(["lab-continual", "--out", str(results)]) == 1
    assert "commit first" in capsys.readouterr().err


def test_commands_that_keep_results_take_committed_code_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "state_of_code", lambda _: ("abc-dirty", "files have changed"))
    parser = argparse.ArgumentParser()
    record.add_out(parser, record.RESULTS)

    def commit_of(options: argparse.Namespace) -> str:
        return record.commit_of(parser, options.out, allow_dirty=options.allow_dirty)

    with pytest.raises(SystemExit) as ended:
        commit_of(parser.parse_args([]))
    assert ended.value.code == 1
    assert "files have changed; commit first" in capsys.readouterr().err
    for told in (["--allow-dirty"], ["--out", str(tmp_path)]):
        assert commit_of(parser.parse_args(told)) == "abc-dirty"


def test_code_without_a_commit_has_no_name(tmp_path: Path) -> None:
    assert state_of_code(tmp_path)[0] == "unknown"
    assert state_of_code(tmp_path)[1] is not None


def repository(root: Path) -> Path:
    """A working tree with one commit."""
    tree = root / "tree"
    tree.mkdir()
    (tree / "code.py").write_text("x = 1\n")
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for told in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *told], cwd=tree, check=True)
    return tree
