"""Frames of videos, decoded once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.datasets.keep_frames import main
from benchmark.datasets.missing import PhotoUnreadable
from benchmark.datasets.tsi import UPDATES, load_tsi
from tests.support.videos import write_video

ACTIVITIES = [activity for update in UPDATES for activity in update]
COUNT = 2 * len(ACTIVITIES)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A train and a test subject who do everything; of all a few frames."""
    (tmp_path / "mp4").mkdir()
    video = write_video(tmp_path / "video.mp4", frames=12)
    for activity in ACTIVITIES:
        for subject in ("p03", "p02"):
            shutil.copy(video, tmp_path / "mp4" / f"{activity}_{subject}_r00_v02_c03.mp4")
    monkeypatch.setattr("sys.argv", ["keep_frames", str(tmp_path)])
    return tmp_path


def test_kept_frames_are_read_instead_of_videos(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_tsi(root).train[0].open()
    assert main() == 0
    assert f"{COUNT} of {COUNT} videos" in capsys.readouterr().out
    assert len(list((root / "frames").iterdir())) == COUNT
    for video in (root / "mp4").iterdir():
        video.write_bytes(b"")
    frames = load_tsi(root)
    assert frames.train[0].open().tobytes() == before.tobytes()
    assert (len(frames.train), len(frames.test)) == (len(ACTIVITIES), len(ACTIVITIES))


def test_what_is_kept_is_not_decoded_again(root: Path) -> None:
    assert main() == 0
    [gone, kept, *_] = sorted((root / "frames").iterdir())
    written = kept.stat().st_mtime_ns
    gone.unlink()
    assert main() == 0
    assert gone.exists()
    assert kept.stat().st_mtime_ns == written


def test_broken_videos_are_named_and_the_others_kept(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "mp4" / "Walk_p02_r00_v02_c03.mp4").write_bytes(b"")
    assert main() == 1
    assert "Walk_p02_r00_v02_c03.mp4 cannot be read: " in capsys.readouterr().out
    assert len(list((root / "frames").iterdir())) == COUNT - 1


def test_a_broken_frame_is_named(root: Path) -> None:
    assert main() == 0
    first = load_tsi(root).train[0]
    (root / "frames" / f"{Path(first.name).stem}.png").write_bytes(b"")
    with pytest.raises(PhotoUnreadable, match=r"^frames/Cook\.Cleandishes_p03_r00_v02_c03\.png"):
        first.open()


def test_a_missing_folder_ends_with_a_sentence(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "mp4")
    assert main() == 1
    assert str(root / "mp4") in capsys.readouterr().out
