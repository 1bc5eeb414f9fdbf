"""The paper's own studies, whole: its data sets in miniature, a tiny tower for its encoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from benchmark.run import main
from tests.support.official_sets import write_dalle, write_gtsrb, write_tsi
from tests.support.studies import kept
from tests.support.tiny_lab import tiny_lab
from tests.support.videos import write_video

WRITERS = {
    "gtsrb": write_gtsrb,
    "tsi": partial(write_tsi, video=partial(write_video, frames=3, side=32)),
}


@pytest.mark.parametrize(
    ("study", "classes", "photos"), [("gtsrb", (9, 9, 9, 8, 8), 43), ("tsi", (6, 6, 5, 5, 5), 54)]
)
def test_a_study_of_the_paper_runs(
    study: str, classes: tuple[int, ...], photos: int, tmp_path: Path
) -> None:
    encoder = tiny_lab(tmp_path / "lab") / "base"
    places = {study: WRITERS[study](tmp_path / study), "dalle": write_dalle(tmp_path / "dalle")}
    told = [study, "lorsu", "zero-shot", "--encoder", str(encoder), "--controls", "dalle"]
    told += ["--shots", "1", "--epochs", "1", "--seeds", "0"]
    told += [f"--place={name}={where}" for name, where in places.items()]
    assert main([*told, "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]) == 0
    records = kept(tmp_path, study)
    [edited] = [each for each in records.values() if each["name"] == "lorsu"]
    assert [row["images"] for row in edited["updates"]] == list(classes)
    assert edited["target"]["photos"] == photos
    assert edited["controls"]["dalle"]["photos"] == 44
    assert all("dalle" in row["controls"] for row in edited["updates"])
