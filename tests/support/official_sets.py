"""Data sets in their official layouts, in miniature."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

from benchmark.datasets.dalle import folder_of
from benchmark.datasets.gtsrb import LABELS
from benchmark.datasets.tsi import CAPTIONS, DROPPED, UPDATES
from tests.support.images import photo_bytes
from tests.support.photo_files import write_photos

GTSRB_HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"
GTSRB_TRAINING, GTSRB_TEST = "GTSRB/Final_Training/Images", "GTSRB/Final_Test/Images"
GTSRB_FRAMES = ("00000_00000.ppm", "00000_00001.ppm", "00001_00000.ppm", "00001_00001.ppm")
ACTIVITIES = tuple(activity for update in UPDATES for activity in update)


def write_gtsrb_table(path: Path, rows: Iterable[tuple[str, int]]) -> None:
    """With (file, class) rows."""
    lines = [f"{file};9;7;1;1;8;6;{label}" for file, label in rows]
    path.write_text("\r\n".join([GTSRB_HEADER + ";ClassId", *lines]) + "\r\n")


def write_gtsrb(root: Path) -> Path:
    """All 43 classes, two tracks of two frames each, a test photo a class; returns `root`."""
    picture = photo_bytes(9, 7, format_="PPM")
    for row in range(len(LABELS)):
        folder = root / GTSRB_TRAINING / f"{row:05}"
        folder.mkdir(parents=True)
        for file in GTSRB_FRAMES:
            (folder / file).write_bytes(picture)
        write_gtsrb_table(folder / f"GT-{row:05}.csv", [(file, row) for file in GTSRB_FRAMES])
    test = root / GTSRB_TEST
    test.mkdir(parents=True)
    rows = [(f"{number:05}.ppm", (7 * number) % len(LABELS)) for number in range(len(LABELS))]
    for file, _ in rows:
        (test / file).write_bytes(picture)
    (test / "GT-final_test.test.csv").write_text(GTSRB_HEADER + "\r\n")
    write_gtsrb_table(root / "GT-final_test.csv", rows)
    return root


def write_tsi(root: Path, video: Callable[[Path], object]) -> Path:
    """Two train and two test subjects who do everything, each as `video` writes it; returns
    `root`."""
    (root / "mp4").mkdir(parents=True)
    for activity, subject in product([*ACTIVITIES, *DROPPED], ("p03", "p25", "p02", "p20")):
        video(root / "mp4" / f"{activity}_{subject}_r00_v02_c03.mp4")
    return root


def write_dalle(root: Path) -> Path:
    """Two pictures a caption; returns `root`."""
    names = (f"{folder_of(caption)}/{number:04}.png" for caption in CAPTIONS for number in (0, 1))
    return write_photos(root, names)
