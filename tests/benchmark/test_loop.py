"""The benchmark's own arithmetic and its reading of the lab."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from benchmark.lab import Lab, LabMissing, draw
from benchmark.latency import LatencyProbe
from benchmark.loop import accuracy, flips, load_bed

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))


def test_accuracy_is_the_percent_of_equal_answers() -> None:
    assert accuracy(["a", "b", "c"], ["a", "b", "x"]) == pytest.approx(66.67)


def test_flips_count_changes_whether_right_or_wrong() -> None:
    before = {"answers": {"ten": ["a", "b", "c", "d"]}}
    after = {"answers": {"ten": ["a", "x", "c", "y"]}}
    assert flips(before, after, "ten") == 50.0


def test_a_missing_lab_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabMissing, match="base"):
        Lab(tmp_path)


def test_a_split_is_read_from_the_archive_without_the_others(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with zipfile.ZipFile(tmp_path / "gtsrb.zip", "w") as archive:
        for split in ("train", "test"):
            for frame in range(3):
                archive.writestr(f"{split}/00/1_{frame}.png", f"{split}{frame}")
    train = Lab(tmp_path).signs("train")
    assert [data for _, data in train["00"]] == [b"train0", b"train1", b"train2"]
    assert len(set(draw(train["00"], 2, seed=1))) == 2


def test_a_name_that_stands_twice_becomes_one_label(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    content = {"names": {"0": "tench", "1": "missile", "2": "missile"}, "templates": ["a {}."]}
    (tmp_path / "classes-imagenet.json").write_text(json.dumps(content))
    assert Lab(tmp_path).label_names("imagenet").labels == ["tench", "missile"]


def test_a_probe_reports_what_it_could_not_ask() -> None:
    probe = LatencyProbe("http://127.0.0.1:9", b"", "signs")
    probe.seconds, probe.failures = {"idle": [0.01, 0.02], "training": [0.5]}, ["ConnectError()"]
    summary = probe.summary()
    assert summary["median_ms"] == 20.0
    assert summary["max_ms"] == 500.0
    assert summary["slowest_ms"] == {"idle": 20.0, "training": 500.0}
    assert summary["failures"] == ["ConnectError()"]


@pytest.mark.skipif(not LAB.exists(), reason=f"no lab folder at {LAB} (set EMEND_LAB)")
def test_the_bed_is_what_the_protocol_says() -> None:
    bed = load_bed(Lab(LAB), shots=2, seed=0)
    assert [len(batch.images) for batch in bed.batches] == [18, 18, 18, 16, 16]
    assert len(bed.test.images) == 2580
    sent = {image for batch in bed.batches for image in batch.images}
    assert not sent & set(bed.test.images)
    seen = [set(batch.labels) for batch in bed.batches]
    assert sum(len(labels) for labels in seen) == len(set.union(*seen)) == 43
