"""XImageNet-12's scenarios, in miniature."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.datasets.imagenet import LABELS, ROWS
from benchmark.datasets.missing import ClassEmpty, SetMalformed, SetMissing
from benchmark.datasets.ximagenet12 import load_ximagenet12
from tests.support.photo_files import packed, write_photos

SYNSETS = sorted(ROWS)[40:640:50]
NAMES = [
    f"{scenario}/{synset}/{synset}_7.{ending}"
    for scenario, ending in (("blur/blur_background", "JPEG"), ("image_g", "png"))
    for synset in SYNSETS
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "ximage", NAMES)


@pytest.mark.parametrize("archived", [False, True])
def test_each_scenario_is_a_control_set(root: Path, archived: bool) -> None:
    sets = load_ximagenet12(packed(root) if archived else root)
    assert sorted(sets) == ["blur_background", "image_g"]
    green = sets["image_g"]
    assert green.name == "ximagenet12/image_g"
    assert (green.train, green.updates) == ((), ())
    assert green.labels == tuple(LABELS[ROWS[synset]] for synset in SYNSETS)
    assert [photo.label for photo in green.test] == list(range(12))
    assert green.test[3].name == NAMES[15]
    assert green.test[3].open().size == (12, 8)


def test_one_scenarios_folder_can_be_named(root: Path) -> None:
    assert list(load_ximagenet12(root / "image_g")) == ["image_g"]


def test_what_is_not_in_class_folders_is_no_photo_of_the_set(root: Path) -> None:
    (root / "annotations.json").write_text("{}")
    assert len(load_ximagenet12(root)["image_g"].test) == 12


def test_without_class_folders_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match="class folders"):
        load_ximagenet12(write_photos(tmp_path, ["blur_background/castle/1.png"]))


@pytest.mark.parametrize("count", [11, 13])
def test_there_are_twelve_classes(root: Path, count: int) -> None:
    if count == 13:
        write_photos(root, ["image_g/n01440764/1.png"])
    else:
        for scenario in ("blur/blur_background", "image_g"):
            shutil.rmtree(root / scenario / SYNSETS[0])
    with pytest.raises(SetMalformed, match=f"they are {count}, not 12: n0"):
        load_ximagenet12(root)


def test_a_folder_that_is_no_class_is_refused(root: Path) -> None:
    write_photos(root, ["image_g/n00001740/1.png"])
    with pytest.raises(SetMalformed, match="n00001740: it is no class"):
        load_ximagenet12(root)


def test_a_class_without_photos_in_a_scenario_is_named(root: Path) -> None:
    shutil.rmtree(root / "image_g" / SYNSETS[4])
    label = LABELS[ROWS[SYNSETS[4]]]
    with pytest.raises(ClassEmpty, match=f"ximagenet12/image_g: no test photo of {label} in"):
        load_ximagenet12(root)


def test_two_scenarios_of_one_name_are_refused(root: Path) -> None:
    shutil.copytree(root / "image_g", root / "copies" / "image_g")
    with pytest.raises(SetMalformed, match="a second scenario called 'image_g'"):
        load_ximagenet12(root)


def test_what_is_no_photo_is_refused(root: Path) -> None:
    (root / "image_g" / SYNSETS[0] / "mask.json").touch()
    with pytest.raises(SetMalformed, match=r"mask\.json: it is no photo by its ending"):
        load_ximagenet12(root)
