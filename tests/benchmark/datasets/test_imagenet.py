"""ImageNet's validation photos in the three layouts people have them in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
from scipy.io import savemat

from benchmark.datasets.imagenet import LABELS, ROWS, SOLUTION, TRUTH, load_imagenet
from benchmark.datasets.missing import ClassEmpty, PhotoUnreadable, SetMalformed, SetMissing
from tests.support.photo_files import write_photos

SYNSETS = ("n02123159", "n01440764", "n02992211")  # tiger cat, tench, cello
FILES = [f"ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2, 3)]
NAMED = ["tiger cat", "tench", "cello"]


def by_class(root: Path, folder: str) -> Path:
    names = (f"{folder}/{synset}/{file}" for synset, file in zip(SYNSETS, FILES, strict=True))
    return write_photos(root, names)


def with_kit(root: Path, folder: str, kit: str = "ILSVRC2012_devkit_t12/data") -> Path:
    """The official kit in miniature: numbers in an order of its own, one synset of no class."""
    write_photos(root / folder, FILES)
    (root / kit).mkdir(parents=True)
    rows = [(1, SYNSETS[2], 0), (2, SYNSETS[1], 0), (3, SYNSETS[0], 0), (4, "n00001740", 3)]
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    savemat(root / kit / "meta.mat", {"synsets": np.array(rows, dtype=fields)[:, np.newaxis]})
    (root / kit / TRUTH).write_text("3\n2\n1\n")
    return root


def with_table(root: Path, folder: str) -> Path:
    write_photos(root / folder, FILES)
    rows = [
        f"{file.removesuffix('.JPEG')},{synset} 85 1 499 272 {synset} 3 4 5 6 "
        for file, synset in zip(FILES, SYNSETS, strict=True)
    ]
    (root / SOLUTION).write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n")
    return root


def test_every_name_of_open_clip_is_a_label() -> None:
    assert len(ROWS) == 1000
    assert [LABELS[row] for row in ROWS.values()] == list(open_clip.IMAGENET_CLASSNAMES)
    assert len(LABELS) == len(set(LABELS)) == 998
    assert [LABELS[ROWS[synset]] for synset in SYNSETS] == NAMED
    assert ROWS["n03773504"] == ROWS["n04008634"]  # both are called "missile"


@pytest.mark.parametrize("write", [by_class, with_kit, with_table])
@pytest.mark.parametrize(
    "folder", ["val", "ILSVRC2012_img_val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val", "."]
)
def test_each_layout_gives_the_same_answers(
    tmp_path: Path, write: Callable[[Path, str], Path], folder: str
) -> None:
    photos = load_imagenet(write(tmp_path, folder))
    assert photos.labels == LABELS
    assert (photos.train, photos.updates) == ((), ())
    found = {Path(photo.name).name: photos.labels[photo.label] for photo in photos.test}
    assert found == dict(zip(FILES, NAMED, strict=True))
    assert photos.test[0].open().size == (12, 8)


@pytest.mark.parametrize("write", [with_kit, with_table])
def test_the_photos_own_folder_may_be_named(
    tmp_path: Path, write: Callable[[Path, str], Path]
) -> None:
    assert len(load_imagenet(write(tmp_path, "val") / "val").test) == 3


def test_all_templates_have_one_gap(tmp_path: Path) -> None:
    templates = load_imagenet(by_class(tmp_path, "val")).templates
    assert len(templates) == 80
    assert all(template.count("{}") == 1 for template in templates)
    assert templates[0] == "a bad photo of a {}."


def test_without_photos_every_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    with pytest.raises(SetMissing, match="ILSVRC2012_val") as missing:
        load_imagenet(tmp_path)
    for place in (tmp_path / "val", tmp_path / "ILSVRC/Data/CLS-LOC/val", tmp_path):
        assert place in missing.value.looked


def test_without_answers_every_place_is_named(tmp_path: Path) -> None:
    write_photos(tmp_path / "val", FILES)
    with pytest.raises(SetMissing, match="what is on the photos") as missing:
        load_imagenet(tmp_path)
    assert tmp_path / SOLUTION in missing.value.looked
    assert tmp_path / "ILSVRC2012_devkit_t12/data" / TRUTH in missing.value.looked


def test_a_kit_without_its_table_is_named(tmp_path: Path) -> None:
    with_kit(tmp_path, "val")
    (tmp_path / "ILSVRC2012_devkit_t12/data/meta.mat").unlink()
    with pytest.raises(SetMissing, match=r"kit's meta\.mat is missing"):
        load_imagenet(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("meta.mat", b"MATLAB no more", "not the kit's table of synsets"),
        ("meta.mat", b"", "not the kit's table of synsets"),
        (TRUTH, b"3\n2\n4\n", "line 3: '4' is no class number"),
        (TRUTH, b"3\n2\n", r"none of them is about ILSVRC2012_val_00000003\.JPEG"),
    ],
)
def test_a_kit_that_is_wrong_is_refused(
    tmp_path: Path, file: str, content: bytes, told: str
) -> None:
    with_kit(tmp_path, "val")
    (tmp_path / "ILSVRC2012_devkit_t12/data" / file).write_bytes(content)
    with pytest.raises(SetMalformed, match=told):
        load_imagenet(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("ImageId\nx\n", "no column 'PredictionString'"),
        (f"ImageId,PredictionString\n{FILES[0]},n00001740 1 2 3 4\n", "'n00001740' is no class"),
        ("ImageId,PredictionString\n", "none of them is about"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, content: str, told: str) -> None:
    with_table(tmp_path, "val")
    (tmp_path / SOLUTION).write_text(content)
    with pytest.raises(SetMalformed, match=told):
        load_imagenet(tmp_path)


def test_a_folder_that_is_no_class_is_refused(tmp_path: Path) -> None:
    by_class(tmp_path, "val")
    (tmp_path / "val" / "tench").mkdir()
    with pytest.raises(SetMalformed, match="tench: it is no class of ILSVRC2012"):
        load_imagenet(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    by_class(tmp_path, "val")
    (tmp_path / "val" / SYNSETS[1] / FILES[1]).unlink()
    with pytest.raises(ClassEmpty, match="no test photo of n01440764"):
        load_imagenet(tmp_path)


def test_a_photo_of_another_name_is_refused(tmp_path: Path) -> None:
    with_table(tmp_path, "val")
    write_photos(tmp_path / "val", ["cat.jpg"])
    with pytest.raises(SetMalformed, match=r"cat\.jpg: it is not named ILSVRC2012_val"):
        load_imagenet(tmp_path)


@pytest.mark.parametrize("write", [by_class, with_table])
def test_a_broken_photo_is_named(tmp_path: Path, write: Callable[[Path, str], Path]) -> None:
    write(tmp_path, "val")
    next((tmp_path / "val").rglob(FILES[0])).write_bytes(b"")
    broken = [photo for photo in load_imagenet(tmp_path).test if photo.name.endswith(FILES[0])]
    with pytest.raises(PhotoUnreadable, match=FILES[0]):
        broken[0].open()
