"""Tables and plots from records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmark import plot, table
from benchmark.plot import MARKS, draw, trade
from benchmark.record import Asked, Record, RecordStore, RecordUnreadable, UpdateRow, read_record
from benchmark.table import RunsDiffer, RunsMixed, grouped, tables


def made(name: str = "lorsu", *, seed: int = 0, after: float = 50.0, **facts: Any) -> Record:
    told: Mapping[str, Any] = {
        "method": None if name == "zero-shot" else name,
        "data": "lab",
        "shots": 20,
        "updates": 2,
        "base": "b",
        **facts,
    }
    rows = tuple(
        UpdateRow(number, 4, 2, 0.5, 10, 30.0, 40.0, (after, number * 10.0), after, {"ten": 97.0})
        for number in (1, 2)
    )
    return Record(
        study="mine",
        name=name,
        title=name.upper(),
        seed=seed,
        facts=told,
        commit="c",
        libraries={},
        threads=1,
        seconds=1.0,
        cpu_seconds=1.0,
        peak_memory=1,
        parameters=1234,
        step_flops=5_000_000_000,
        target=Asked(10, "t", 40.0, after, 20.0),
        controls={"ten": Asked(10, "x", 97.0, 96.5, 2.0)},
        reliability=None if name == "zero-shot" else 90.0,
        updates=() if name == "zero-shot" else rows,
    )


def test_a_table_has_mean_and_deviation_over_seeds() -> None:
    told = tables([made(seed=0, after=50), made(seed=1, after=54), made("zero-shot", after=40)])
    head, _, zero, lorsu = [line.split(" | ") for line in told.splitlines() if line.startswith("|")]
    row = dict(zip(head, lorsu, strict=True))
    assert row["target %"] == "52.0 ± 2.8"
    assert row["change"] == "−0.5 ± 0.0"  # the last column of this name: of the control set
    assert lorsu[4] == "+12.0 ± 2.8"  # the first: of the target
    assert (row["seeds"], row["flips %"]) == ("2", "2.0 ± 0.0")
    assert row["ACC"] == "36.0 ± 1.4"
    assert row["BWT"] == "0.0 ± 0.0"
    assert (row["numbers trained"], row["GFLOPs a step"]) == ("1,234", "5")
    assert row["minutes |"] == "1.0 ± 0.0 |"
    assert zero[0] == "| ZERO-SHOT"


def test_one_seed_has_no_deviation() -> None:
    assert "±" not in tables([made()])


def test_other_shots_stand_in_a_table_of_their_own() -> None:
    told = tables([made(), made(shots=5), made("zero-shot")])
    assert told.count("| LORSU") == 2
    assert told.count("| ZERO-SHOT") == 2
    assert "lab, 5 photos a class" in told


def test_longer_streams_stand_beside_shorter_ones() -> None:
    told = tables([made(), made(updates=20), made("zero-shot")])
    assert told.count("**") == 2
    assert "| LORSU | 2 | 1 |" in told
    assert "| LORSU | 20 | 1 |" in told
    assert "| ZERO-SHOT |  | 1 |" in told


def test_runs_that_were_asked_other_things_are_refused() -> None:
    other = replace(made("spu"), target=Asked(10, "other", 40.0, 50.0, 1.0))
    for stranger in (other, made("spu", base="another")):
        with pytest.raises(RunsDiffer, match="spu"):
            tables([made(), stranger])


def test_seeds_of_other_settings_are_no_seeds_of_one_row() -> None:
    one, other = made(config={"epochs": 5}), made(seed=1, config={"epochs": 2})
    with pytest.raises(RunsMixed, match=r"seed 1 .* seed 0 \(config.epochs\)"):
        tables([one, other])
    assert "| LORSU | 2 | 2 |" in tables([one, made(seed=1, config={"epochs": 5})])


def test_control_photos_that_held_an_edit_back_count_apart() -> None:
    unseen = {"ten": Asked(5, "y", 96.0, 94.0, 6.0)}
    guarded = replace(made("guarded"), unseen=unseen)
    told = tables([made(), guarded]).splitlines()
    head, _, first, second = [line.split(" | ") for line in told if line.startswith("|")]
    rows = [dict(zip(head, cells, strict=True)) for cells in (first, second)]
    assert [row["flips %"] for row in rows] == ["2.0", "2.0"]
    assert [row["flips %, unseen"] for row in rows] == ["6.0", ""]
    assert [row["change, unseen"] for row in rows] == ["−2.0", ""]
    assert "unseen" not in tables([made()])


def test_a_table_tells_the_strength_of_edits_that_had_to_keep_limits() -> None:
    facts = {"within": {"ten": {"lost": 0.5, "flips": 100}}}
    limited = []
    for seed, strength in ((0, 0.8), (1, 0.9)):
        run = made("within", seed=seed, **facts)
        rows = tuple(replace(row, strength=strength) for row in run.updates)
        limited.append(replace(run, updates=rows))
    told = tables([made(), *limited]).splitlines()
    head, _, plain, mine = [line.split(" | ") for line in told if line.startswith("|")]
    rows = [dict(zip(head, cells, strict=True)) for cells in (plain, mine)]
    assert [row["strength"] for row in rows] == ["", "0.85 ± 0.07"]
    assert "strength" not in tables([made()])


def test_a_table_says_what_its_numbers_were_made_with() -> None:
    other = replace(made(seed=1), commit="d", libraries={"torch": "3"})
    assert "*Code c, d; torch 3.*" in tables([made(), other])


def test_records_survive_the_disk(tmp_path: Path) -> None:
    store, record = RecordStore(tmp_path), made()
    path = store.save(record, "lorsu-20x2-seed0")
    assert read_record(path) == record
    assert store.find("mine", "lorsu-20x2-seed0", record.facts) == record
    assert store.find("mine", "lorsu-20x2-seed0", {**record.facts, "shots": 1}) is None
    assert store.find("mine", "nothing", record.facts) is None
    assert store.all("mine") == [record]


@pytest.mark.parametrize("text", ["{", "[]", '{"study": "mine"}', '{"target": 1}'])
def test_a_file_that_is_no_record_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = RecordStore(tmp_path).save(made(), "lorsu-20x2-seed0")
    path.write_text(text)
    with pytest.raises(RecordUnreadable, match="lorsu-20x2-seed0"):
        read_record(path)
    for command in (table.main, plot.main):
        assert command(["mine", "--out", str(tmp_path)]) == 1
        assert "is no record of a run" in capsys.readouterr().err


def test_plots_show_control_sets_that_all_runs_watched(tmp_path: Path) -> None:
    more = [replace(row, controls={"ten": 97.0, "wide": 50.0}) for row in made().updates]
    paths = draw([replace(made(), updates=tuple(more)), made("spu")], tmp_path)
    assert len(paths) == 2


def test_names_beneath_a_plot_hide_no_point_and_no_two_methods_look_alike() -> None:
    records = [made(f"m{number:02}") for number in range(20)]
    [(group, runs)] = grouped(records)
    figure = trade(runs, group)
    figure.draw_without_rendering()
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert not any(axis.get_window_extent().overlaps(box) for axis in figure.axes)
    _, labels = figure.axes[0].get_legend_handles_labels()
    looks = [(str(line.get_marker()), str(line.get_color())) for line in figure.axes[0].lines]
    points = [look for look in looks if look[0] in set(MARKS)]
    assert len(labels) == len(points) == len(set(points)) == 20


def test_plots_are_pictures_of_every_table(tmp_path: Path) -> None:
    records = [made(seed=0), made(seed=1, after=53), made("spu", after=45), made("zero-shot")]
    paths = draw(records, tmp_path)
    assert [path.name for path in paths] == ["lab-20-trade.png", "lab-20-updates.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width > 300
            colours = picture.convert("RGB").getcolors(maxcolors=1 << 20)
        assert colours is not None
        assert len(colours) > 50  # lines and marks, not an empty page


def test_both_commands_say_when_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (table.main, plot.main):
        assert command(["mine", "--out", str(tmp_path)]) == 1
        assert "holds no results of mine" in capsys.readouterr().err
    RecordStore(tmp_path).save(made(), "lorsu-20x2-seed0")
    for command, told in ((table.main, "### mine"), (plot.main, "lab-20-trade.png")):
        assert command(["mine", "--out", str(tmp_path)]) == 0
        assert told in capsys.readouterr().out
