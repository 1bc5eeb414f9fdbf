"""The table from kept runs, with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.loop import RESULTS
from benchmark.vqa.edits import Cost
from benchmark.vqa.runs import Run, RunStore, SetResult
from benchmark.vqa.table import NoBaseline, RunsDiffer, flips, markdown


def answers(chosen: str, accuracy: float, *, digest: str = "d") -> SetResult:
    return SetResult(len(chosen), digest, accuracy, accuracy, chosen)


def run(row: str, seed: int, target: float, control: float, chosen: str = "0123") -> Run:
    return Run(
        row=row,
        seed=seed,
        facts={"row": row, "seed": seed},
        cost=Cost(cpu_seconds=90.0, steps=10, parameters=1234),
        target=answers("0000", target),
        control=answers(chosen, control),
        classifier=30.0,
        commit="abc",
    )


BASELINE = run("zero-shot", 0, 40.0, 90.0)
RUNS = [
    run("lorsu", 0, 50.0, 89.0, "0124"),
    run("lorsu", 1, 54.0, 90.0),
    run("full-finetune", 0, 30.0, 85.0, "4312"),
    BASELINE,
]


def test_rows_have_means_spreads_and_changes() -> None:
    lines = markdown(RUNS).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    told = ["30.0 ± 0.0", "1,234", "1.5"]
    # deviation of 50 and 54: sqrt(8) = 2.8; flips of one and of no question of four: 12.5 ± 17.7
    assert cells == [
        ["Zr-shot", "1", "40.0", "", "90.0", "", "", "30.0", "1,234", "1.5"],
        ["LoRSU", "2", "52.0 ± 2.8", "+12.0", "89.5 ± 0.7", "−0.5", "12.5 ± 17.7", *told],
        ["F-FT", "1", "30.0", "−10.0", "85.0", "−5.0", "100.0", "30.0", "1,234", "1.5"],
    ]


def test_flips_count_other_answers_right_or_wrong() -> None:
    assert flips(RUNS[0], BASELINE) == 25.0
    assert flips(BASELINE, BASELINE) == 0.0


def test_without_the_unedited_encoder_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(NoBaseline):
        markdown(RUNS[:2])


def test_runs_that_were_asked_otherwise_do_not_share_a_table() -> None:
    other = replace(RUNS[0], control=answers("0123", 90.0, digest="e"))
    with pytest.raises(RunsDiffer, match="lorsu, seed 0, and zero-shot, seed 0"):
        markdown([other, BASELINE])


def test_runs_that_were_taught_otherwise_do_not_share_a_row() -> None:
    other = replace(RUNS[1], facts={**RUNS[1].facts, "shots": 5})
    with pytest.raises(RunsDiffer, match="seed 0, were taught with other settings"):
        markdown([RUNS[0], other, BASELINE])


def test_a_run_is_kept_for_its_own_facts(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results")
    store.save(RUNS[0])
    assert store.find("lorsu", 0, RUNS[0].facts) == RUNS[0]
    assert store.find("lorsu", 0, {"row": "lorsu", "seed": 0, "shots": 5}) is None
    assert store.find("lorsu", 1, RUNS[1].facts) is None
    store.save(replace(RUNS[0], commit="def"))
    assert [each.commit for each in store.all()] == ["def"]


def test_the_readme_shows_the_table_of_the_kept_runs() -> None:
    kept = RunStore(RESULTS / "vqa").all()
    assert markdown(kept).strip() in (RESULTS.parent / "README.md").read_text()
