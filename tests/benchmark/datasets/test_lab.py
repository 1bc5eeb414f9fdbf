"""The lab as data sets, in miniature and, where it is, the real one."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.datasets.missing import PhotoUnreadable, SetMalformed
from benchmark.lab import LabMissing
from tests.support.images import photo_bytes

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))
TEN = {"garbage_truck": "garbage truck", "tench": "tench"}
THOUSAND = {"0000": "tench", "0001": "missile", "0002": "missile", "0003": "garbage truck"}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Two sign classes out of order, two control classes, four ImageNet classes of three names."""
    (tmp_path / "base").mkdir()
    signs = {"names": {"01": "stop", "00": "give way"}, "class_groups": [["01"], ["00"]]}
    listed = {"gtsrb": signs, "control": {"names": TEN}, "imagenet": {"names": THOUSAND}}
    for name, content in listed.items():
        path = tmp_path / f"classes-{name}.json"
        path.write_text(json.dumps({**content, "templates": [f"{name} {{}}"]}))
    contents = {
        "gtsrb.zip": [
            f"{split}/{key}/{track}_{frame}.png"
            for split, tracks in (("train", "12"), ("test", "3"), ("pretrain", "4"))
            for key in ("00", "01")
            for track in tracks
            for frame in "56"
        ],
        "control.zip": [f"{key}/{number}.png" for key in TEN for number in range(2)],
        "wide-control.zip": [f"{key}/a.png" for key in THOUSAND],
    }
    for archive, names in contents.items():
        with zipfile.ZipFile(tmp_path / archive, "w") as opened:
            for seed, name in enumerate(names):
                opened.writestr(name, photo_bytes(seed=seed))
    return tmp_path


def test_signs_have_their_splits_tracks_and_updates(lab: Path) -> None:
    signs = load_lab(lab)
    assert (signs.name, signs.labels) == ("lab", ("give way", "stop"))
    assert (signs.templates, signs.updates) == (("gtsrb {}",), ((1,), (0,)))
    assert [p.name for p in signs.train[:5]] == [
        "00/1_5.png",
        "00/1_6.png",
        "00/2_5.png",
        "00/2_6.png",
        "01/1_5.png",
    ]
    assert [p.label for p in signs.train] == [0] * 4 + [1] * 4
    assert {p.group for p in signs.train} == {"00/1", "00/2", "01/1", "01/2"}
    assert {p.group for p in signs.test} == {"00/3", "01/3"}
    assert signs.train[1].open().size == (48, 32)


def test_controls_are_asked_over_ten_names_and_over_all(lab: Path) -> None:
    ten, thousand, wide = load_lab_controls(lab).values()
    assert ten.labels == ("garbage truck", "tench")
    assert thousand.labels == wide.labels == ("tench", "missile", "garbage truck")
    assert [p.name for p in ten.test] == [p.name for p in thousand.test]
    assert [p.label for p in ten.test] == [0, 0, 1, 1]
    assert [p.label for p in thousand.test] == [2, 2, 0, 0]
    assert [p.label for p in wide.test] == [0, 1, 1, 2]
    assert {len(p.group) for p in wide.test} == {len("0000/a.png")}
    assert all(each.train == () == each.updates for each in (ten, thousand, wide))


def test_a_photo_that_is_none_is_named(lab: Path) -> None:
    with zipfile.ZipFile(lab / "gtsrb.zip", "a") as archive:
        archive.writestr("test/00/9_1.png", b"\x89PNG and no more")
    broken = [p for p in load_lab(lab).test if p.group == "00/9"]
    with pytest.raises(PhotoUnreadable, match=r"00/9_1\.png"):
        broken[0].open()


def test_a_missing_archive_is_named(lab: Path) -> None:
    (lab / "wide-control.zip").unlink()
    with pytest.raises(LabMissing, match=r"wide-control\.zip"):
        load_lab_controls(lab)


def test_a_damaged_archive_is_named(lab: Path) -> None:
    (lab / "gtsrb.zip").write_bytes(b"PK no more")
    with pytest.raises(SetMalformed, match=r"gtsrb\.zip, the archive: "):
        load_lab(lab)


@pytest.mark.skipif(not LAB.exists(), reason=f"no lab folder at {LAB} (set EMEND_LAB)")
def test_the_lab_has_what_its_readme_counts() -> None:
    signs = load_lab(LAB)
    assert (len(signs.train), len(signs.test), len(signs.labels)) == (4110, 2580, 43)
    assert [len(update) for update in signs.updates] == [9, 9, 9, 8, 8]
    tracks = [{p.group for p in part} for part in (signs.train, signs.test)]
    assert [len(each) for each in tracks] == [418, 355]
    assert not tracks[0] & tracks[1]
    controls = load_lab_controls(LAB)
    assert [len(each.test) for each in controls.values()] == [500, 500, 1000]
    assert [len({p.label for p in each.test}) for each in controls.values()] == [10, 10, 998]
