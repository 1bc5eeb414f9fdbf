"""GTSRB's official layout, in miniature: all 43 classes, two tracks of two frames each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.datasets.gtsrb import UPDATES, load_gtsrb
from benchmark.datasets.missing import ClassEmpty, PhotoUnreadable, SetMalformed, SetMissing
from benchmark.datasets.photos import cut_by_group
from tests.support.official_sets import GTSRB_FRAMES as FRAMES
from tests.support.official_sets import GTSRB_HEADER as HEADER
from tests.support.official_sets import GTSRB_TEST as TEST
from tests.support.official_sets import GTSRB_TRAINING as TRAINING
from tests.support.official_sets import write_gtsrb
from tests.support.official_sets import write_gtsrb_table as write_table


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gtsrb(tmp_path_factory.mktemp("gtsrb"))


@pytest.fixture
def root(archives: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archives, tmp_path / "unpacked"))


def test_the_official_layout_is_read(archives: Path) -> None:
    signs = load_gtsrb(archives)
    assert len(signs.labels) == 43 == len(set(signs.labels))
    assert (len(signs.train), len(signs.test)) == (43 * 4, 43)
    assert signs.train[5].name == "00001/00000_00001.ppm"
    assert (signs.train[5].label, signs.train[5].group) == (1, "00001/00000")
    assert len({photo.group for photo in signs.train}) == 43 * 2
    assert [photo.label for photo in signs.test[:3]] == [0, 7, 14]
    assert {photo.group for photo in signs.test} == {photo.name for photo in signs.test}
    assert signs.test[0].open().size == (9, 7)


def test_the_updates_are_the_papers(archives: Path) -> None:
    assert [len(update) for update in UPDATES] == [9, 9, 9, 8, 8]
    assert sorted(sum(UPDATES, ())) == list(range(43))
    signs = load_gtsrb(archives)
    assert signs.updates == UPDATES
    assert signs.updates[4] == (30, 28, 31, 7, 16, 4, 36, 8)
    assert all(template.count("{}") == 1 for template in signs.templates)


def test_tracks_are_never_cut(archives: Path) -> None:
    fitting, validation = cut_by_group(load_gtsrb(archives).train, 0.3, 0)
    assert len(validation) == 43 * 2
    assert not {photo.group for photo in fitting} & {photo.group for photo in validation}


@pytest.mark.parametrize(
    ("official", "unpacked"),
    [
        ("GTSRB/Final_Training", "Final_Training"),
        ("GTSRB/Final_Training/Images", "GTSRB/Training"),
        ("GTSRB/Final_Training", "GTSRB_Final_Training_Images/GTSRB/Final_Training"),
        ("GTSRB/Final_Training/Images", "GTSRB-Training_fixed/GTSRB/Training"),
        ("GTSRB/Final_Test", "Final_Test"),
        ("GTSRB/Final_Test", "GTSRB_Final_Test_Images/GTSRB/Final_Test"),
        ("GT-final_test.csv", "GTSRB/GT-final_test.csv"),
        ("GT-final_test.csv", "GTSRB_Final_Test_GT/GT-final_test.csv"),
        ("GT-final_test.csv", "GTSRB/Final_Test/Images/GT-final_test.csv"),
    ],
)
def test_folders_as_people_unpack_them(root: Path, official: str, unpacked: str) -> None:
    (root / unpacked).parent.mkdir(parents=True, exist_ok=True)
    (root / official).rename(root / unpacked)
    assert len(load_gtsrb(root).train) == 43 * 4


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (TRAINING, "folder of the training classes"),
        (f"{TRAINING}/00007", "class 00007"),
        (f"{TRAINING}/00007/GT-00007.csv", "class 00007"),
        (TEST, "folder of the test photos"),
        ("GT-final_test.csv", r"GTSRB_Final_Test_GT\.zip"),
    ],
)
def test_what_is_missing_is_named_with_every_place(root: Path, gone: str, named: str) -> None:
    path = root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SetMissing, match=named) as missing:
        load_gtsrb(root)
    assert all(str(place) in str(missing.value) for place in missing.value.looked)
    assert any(place.is_relative_to(path) for place in missing.value.looked)


def unlabelled(root: Path) -> None:
    (root / "GT-final_test.csv").write_text(HEADER + "\r\n00000.ppm;9;7;1;1;8;6\r\n")


def without_a_photo(root: Path) -> None:
    (root / TRAINING / "00003" / FRAMES[2]).unlink()


def without_a_row(root: Path) -> None:
    write_table(root / TRAINING / "00003/GT-00003.csv", [(file, 3) for file in FRAMES[:3]])


def of_another_class(root: Path) -> None:
    write_table(root / TRAINING / "00003/GT-00003.csv", [(file, 4) for file in FRAMES])


def of_class_43(root: Path) -> None:
    write_table(root / "GT-final_test.csv", [("00000.ppm", 43)])


def of_no_text(root: Path) -> None:
    (root / "GT-final_test.csv").write_bytes(b"Filename;ClassId\r\n\xff\xfe;1\r\n")


def with_a_short_row(root: Path) -> None:
    (root / "GT-final_test.csv").write_text(HEADER + ";ClassId\r\n00000.ppm;9;7\r\n")


def named_twice(root: Path) -> None:
    write_table(root / "GT-final_test.csv", [("00000.ppm", 1), ("00000.ppm", 1)])


def without_a_track(root: Path) -> None:
    folder = root / TRAINING / "00003"
    for file in FRAMES:
        (folder / file).rename(folder / file.replace("_", "-"))
    write_table(folder / "GT-00003.csv", [(file.replace("_", "-"), 3) for file in FRAMES])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (unlabelled, r"line 1: it has no column 'ClassId'.*GTSRB_Final_Test_GT\.zip"),
        (without_a_photo, r"GT-00003\.csv, line 4: '00001_00000\.ppm' is not in"),
        (without_a_row, r"none of them is about 00001_00001\.ppm"),
        (of_another_class, "line 2: ClassId is 4 in the folder of 3"),
        (of_class_43, "line 2: ClassId is '43', not 0 to 42"),
        (of_no_text, "the file: it is no CSV"),
        (with_a_short_row, "line 2: it has no ClassId"),
        (named_twice, "line 3: '00000.ppm' .* named twice"),
        (without_a_track, "'00000-00000.ppm' is not <track>_<frame>.ppm"),
    ],
)
def test_what_is_wrong_is_told(root: Path, spoil: Callable[[Path], None], told: str) -> None:
    spoil(root)
    with pytest.raises(SetMalformed, match=told):
        load_gtsrb(root)


def test_a_class_without_test_photos_is_named(root: Path) -> None:
    table = root / "GT-final_test.csv"
    lines = table.read_text().splitlines()
    (root / TEST / "00002.ppm").unlink()
    table.write_text("\n".join(line for line in lines if not line.startswith("00002.ppm")))
    with pytest.raises(ClassEmpty, match="no test photo of stop in"):
        load_gtsrb(root)


def test_a_photo_that_is_none_is_named_when_it_is_opened(root: Path) -> None:
    (root / TRAINING / "00000" / FRAMES[0]).write_bytes(b"")
    first = load_gtsrb(root).train[0]
    with pytest.raises(PhotoUnreadable, match=r"00000/00000_00000\.ppm"):
        first.open()


def test_names_of_the_classes_may_be_others(root: Path) -> None:
    names = [f"sign {number}" for number in range(43)]
    (root / "class_names.txt").write_text("\n".join(names) + "\n", "utf-8")
    assert load_gtsrb(root).labels == tuple(names)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"stop\nyield\nstop", "line 3: 'stop' is no name of its own"),
        (b"stop\n\nyield", "line 2: '' is no name of its own"),
        (b"stop\nyield", "2 names for 43 classes"),
        (b"\xff", "it is not UTF-8"),
    ],
)
def test_names_that_are_none_are_refused(root: Path, text: bytes, told: str) -> None:
    (root / "class_names.txt").write_bytes(text)
    with pytest.raises(SetMalformed, match=r"class_names\.txt") as wrong:
        load_gtsrb(root)
    assert told in str(wrong.value)
