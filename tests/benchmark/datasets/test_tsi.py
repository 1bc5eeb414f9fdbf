"""Toyota Smarthome's trimmed videos, in miniature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.datasets.missing import ClassEmpty, PhotoUnreadable, SetMalformed, SetMissing
from benchmark.datasets.tsi import CAPTIONS, DROPPED, UPDATES, load_tsi, middle_frame
from tests.support.images import truncated
from tests.support.official_sets import ACTIVITIES, write_tsi
from tests.support.videos import STEP, write_sound, write_video


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """No video has contents."""
    return write_tsi(tmp_path, Path.touch)


def test_twenty_seven_activities_have_twenty_two_captions() -> None:
    assert [len(update) for update in UPDATES] == [6, 6, 5, 5, 5]
    assert len(set(ACTIVITIES)) == len(ACTIVITIES) == 27
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 22


def test_subjects_are_split_and_four_activities_are_dropped(root: Path) -> None:
    frames = load_tsi(root)
    assert (len(frames.train), len(frames.test)) == (2 * 27, 2 * 27)
    assert {photo.group for photo in frames.train} == {"p03", "p25"}
    assert {photo.group for photo in frames.test} == {"p02", "p20"}
    assert not [photo for photo in frames.train if photo.name.split("_")[0] in DROPPED]
    named = {photo.name: frames.labels[photo.label] for photo in frames.train}
    assert named["Cook.Cleandishes_p03_r00_v02_c03.mp4"] == "washing dishes"
    assert named["Laydown_p25_r00_v02_c03.mp4"] == "lying down"
    assert frames.templates == ("a photo of a person {}",)


def test_a_caption_of_several_updates_is_taught_by_the_right_videos(root: Path) -> None:
    frames = load_tsi(root)
    assert [len(update) for update in frames.updates] == [6, 6, 5, 5, 5]
    walking = CAPTIONS.index("walking")
    assert [walking in update for update in frames.updates] == [True, True, False, False, True]
    for update, captions in enumerate(UPDATES):
        for photos in (frames.train, frames.test):
            mine = [photo for photo in photos if photo.update == update]
            assert {photo.name.split("_")[0] for photo in mine} == set(captions)
            assert {photo.label for photo in mine} == set(frames.updates[update])


@pytest.mark.parametrize("folder", ["Smarthome/mp4", "toyota_smarthome_mp4/mp4"])
def test_folders_as_people_unpack_them(root: Path, folder: str) -> None:
    (root / folder).parent.mkdir()
    (root / "mp4").rename(root / folder)
    assert len(load_tsi(root).train) == 54


def test_a_missing_folder_is_named_with_every_place(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match="the folder of the trimmed videos") as missing:
        load_tsi(tmp_path)
    assert f"{tmp_path / 'mp4'};" in str(missing.value)
    assert str(tmp_path / "toyota_smarthome_mp4" / "mp4") in str(missing.value)


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("Cook.Cleandishes_p03.mp4", "is not named <activity>_pNN_rNN_vNN_cNN.mp4"),
        ("Cook.Fry_p03_r00_v02_c03.mp4", "'Cook.Fry' is no activity"),
        ("Walk_p99_r00_v02_c03.mp4", "subject p99 is in no split"),
        ("Getup_p99_r00_v02_c03.mp4", "subject p99 is in no split"),
    ],
)
def test_a_video_that_is_not_of_the_set_is_refused(root: Path, file: str, told: str) -> None:
    (root / "mp4" / file).touch()
    with pytest.raises(SetMalformed, match=told) as wrong:
        load_tsi(root)
    assert file in str(wrong.value)


def test_an_activity_that_nobody_does_is_named(root: Path) -> None:
    for subject in ("p02", "p20"):
        (root / "mp4" / f"Readbook_{subject}_r00_v02_c03.mp4").unlink()
    with pytest.raises(ClassEmpty, match="no test photo of reading a book in"):
        load_tsi(root)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize(
    ("frames", "middle"),
    [(1, 0), (5, 0), (6, 5), (11, 5), (16, 10), (30, 15), (40, 20)],
)
def test_of_two_frames_a_second_the_middle_one_is_taken(
    tmp_path: Path, frames: int, middle: int, codec: str
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=frames, rate=10, codec=codec)
    image = middle_frame("a.mp4", path)
    assert (image.mode, image.size) == ("RGB", (64, 64))
    grey = image.getpixel((32, 32))
    assert isinstance(grey, tuple)
    assert grey[0] == pytest.approx(middle * STEP, abs=STEP * 0.49)


def test_a_loaded_photo_is_its_videos_frame(root: Path) -> None:
    path = root / "mp4" / "Walk_p03_r00_v02_c03.mp4"
    write_video(path, frames=30)
    [walk] = [photo for photo in load_tsi(root).train if photo.name == path.name]
    assert walk.open().tobytes() == middle_frame("", path).tobytes()


def empty(path: Path) -> None:
    path.touch()


def cut_off(path: Path) -> None:
    write_video(path, frames=40)
    path.write_bytes(truncated(path.read_bytes()))


def of_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def of_sound(path: Path) -> None:
    write_sound(path)


def absent(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("damage", [empty, cut_off, of_noise, of_sound, absent])
def test_a_broken_video_is_named(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "Walk.mp4"
    damage(path)
    with pytest.raises(PhotoUnreadable, match=r"^Walk\.mp4 cannot be read: .+"):
        middle_frame(path.name, path)
