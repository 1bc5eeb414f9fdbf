"""Data sets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.datasets.catalogue import SETS, UnknownDataSet, load
from benchmark.datasets.imagenet import ROWS
from benchmark.datasets.missing import DataSetError
from benchmark.lab import LabMissing
from tests.support.photo_files import write_photos

TWELVE = [f"{s}/{key}/a.png" for s in ("blur_background", "image_g") for key in list(ROWS)[:12]]


def test_a_set_is_loaded_by_its_name(tmp_path: Path) -> None:
    write_photos(tmp_path / "set", ["cat/a.png", "dog/b.png"])
    assert load("imagefolder", tmp_path / "set").labels == ("cat", "dog")


@pytest.mark.parametrize("name", SETS)
def test_every_set_says_what_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataSetError, match=str(tmp_path)):
        load(name, tmp_path)


def test_one_of_a_family_is_loaded_by_both_names(tmp_path: Path) -> None:
    write_photos(tmp_path, TWELVE)
    assert load("ximagenet12/image_g", tmp_path).name == "ximagenet12/image_g"
    with pytest.raises(LabMissing):
        load("lab/ten", tmp_path)


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownDataSet, match=r"'cifar', only dalle, .*gtsrb, .*ximagenet12/\.\.\."):
        load("cifar", tmp_path)
    write_photos(tmp_path, TWELVE)
    for name in ("ximagenet12", "ximagenet12/snow"):
        with pytest.raises(UnknownDataSet, match="only ximagenet12/blur_background, xim"):
            load(name, tmp_path)
