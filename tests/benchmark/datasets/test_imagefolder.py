"""Folders of class folders and archives of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from benchmark.datasets.imagefolder import load_imagefolder
from benchmark.datasets.missing import ClassEmpty, PhotoUnreadable, SetMalformed, SetMissing
from tests.support.images import truncated
from tests.support.photo_files import packed, write_photos

FLOWERS = ["red_rose/a.jpg", "red_rose/more/b.PNG", "tulip/a.webp"]
SPLITS = [f"{split}/{name}" for split in ("train", "test") for name in FLOWERS]


@pytest.fixture(params=["folder", "archive"])
def archived(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "archive")


def test_without_splits_it_is_a_control_set(tmp_path: Path, archived: bool) -> None:
    root = write_photos(tmp_path / "flowers", FLOWERS)
    flowers = load_imagefolder(packed(root) if archived else root)
    assert (flowers.name, flowers.labels) == ("flowers", ("red rose", "tulip"))
    assert (flowers.updates, flowers.train) == ((), ())
    assert [photo.name for photo in flowers.test] == FLOWERS
    assert [photo.label for photo in flowers.test] == [0, 0, 1]
    assert [photo.open().size for photo in flowers.test] == [(12, 8)] * 3


@pytest.mark.parametrize("test_split", ["test", "val", "validation", "valid"])
def test_with_splits_it_is_learnt_in_one_update(
    tmp_path: Path, archived: bool, test_split: str
) -> None:
    root = write_photos(tmp_path / "flowers", SPLITS)
    (root / "test").rename(root / test_split)
    flowers = load_imagefolder(packed(root) if archived else root, templates=["a {}."])
    assert (flowers.updates, flowers.templates) == (((0, 1),), ("a {}.",))
    assert [photo.name for photo in flowers.train] == FLOWERS
    assert len(flowers.test) == 3
    assert flowers.train[2].open().tobytes() != flowers.test[2].open().tobytes()


def test_beside_test_the_other_splits_are_left_alone(tmp_path: Path) -> None:
    root = write_photos(tmp_path, [*SPLITS, "val/weed/a.jpg"])
    assert load_imagefolder(root).labels == ("red rose", "tulip")


@pytest.mark.parametrize("names", [FLOWERS, SPLITS])
def test_a_folder_around_everything_is_looked_through(tmp_path: Path, names: list[str]) -> None:
    root = write_photos(tmp_path / "set", [f"around/it/{name}" for name in names])
    flowers = load_imagefolder(packed(root))
    assert flowers.labels == ("red rose", "tulip")
    assert [photo.name for photo in flowers.test] == FLOWERS


def test_what_operating_systems_leave_behind_is_not_there(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "set", FLOWERS)
    for name in ("__MACOSX/tulip/._a.webp", ".DS_Store", "tulip/Thumbs.db", "tulip/.a.jpg.part"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"?")
    assert len(load_imagefolder(packed(root)).test) == len(load_imagefolder(root).test) == 3


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("lily/notes.txt", r"lily/notes\.txt: it is no photo by its ending"),
        ("stray.jpg", r"stray\.jpg: it is in no class folder"),
        ("red rose/a.jpg", "red_rose: it has the name of 'red rose'"),
    ],
)
def test_what_has_no_place_is_refused(tmp_path: Path, extra: str, told: str) -> None:
    root = write_photos(tmp_path, FLOWERS)
    (root / extra).parent.mkdir(exist_ok=True)
    (root / extra).touch()
    with pytest.raises(SetMalformed, match=told):
        load_imagefolder(root)


def test_a_folder_beside_the_splits_is_refused(tmp_path: Path) -> None:
    root = write_photos(tmp_path, [*SPLITS, "lily/a.jpg"])
    with pytest.raises(SetMalformed, match="lily: it stands beside 'test', but is no split"):
        load_imagefolder(root)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_of_one_split_only_is_named(tmp_path: Path, split: str) -> None:
    root = write_photos(tmp_path, [*SPLITS, f"{split}/white_lily/a.jpg"])
    other = "test" if split == "train" else "train"
    with pytest.raises(ClassEmpty, match=f"no {other} photo of white lily in"):
        load_imagefolder(root)


def test_training_photos_alone_cannot_be_measured_on(tmp_path: Path) -> None:
    root = write_photos(tmp_path, [f"train/{name}" for name in FLOWERS])
    with pytest.raises(SetMissing, match="folders to measure on") as missing:
        load_imagefolder(root)
    assert [path.name for path in missing.value.looked] == ["test", "val", "validation", "valid"]


def test_nothing_is_not_a_set(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match="nowhere"):
        load_imagefolder(tmp_path / "nowhere")
    with pytest.raises(SetMissing, match="folder of class folders"):
        load_imagefolder(tmp_path)
    (tmp_path / "set.zip").write_bytes(b"PK no more")
    with pytest.raises(SetMalformed, match="no folder and no zip archive"):
        load_imagefolder(tmp_path / "set.zip")


def test_a_broken_photo_is_named(tmp_path: Path, archived: bool) -> None:
    root = write_photos(tmp_path / "set", FLOWERS)
    path = root / FLOWERS[0]
    path.write_bytes(truncated(path.read_bytes()))
    photo = load_imagefolder(packed(root) if archived else root).test[0]
    with pytest.raises(PhotoUnreadable, match=r"^red_rose/a\.jpg cannot be read: "):
        photo.open()


def test_a_photo_that_is_gone_or_damaged_in_its_archive_is_named(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "set", FLOWERS)
    archive = packed(root)
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo(FLOWERS[0]).header_offset + 30 + len(FLOWERS[0])
    data = bytearray(archive.read_bytes())
    data[start : start + 8] = b"\xff" * 8
    archive.write_bytes(data)
    photos = [load_imagefolder(each).test[0] for each in (root, archive)]
    (root / FLOWERS[0]).unlink()
    for photo in photos:
        with pytest.raises(PhotoUnreadable, match=r"red_rose/a\.jpg"):
            photo.open()
