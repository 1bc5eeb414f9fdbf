"""The frames of TSI, decoded once: ``python -m benchmark.datasets.keep_frames <folder of TSI>``.

What is kept already is not decoded again. A video that cannot be decoded is named and the others
are kept; such a video is as good as missing, so it is for its owner to fetch again or to remove.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.datasets.missing import DataSetError, PhotoUnreadable
from benchmark.datasets.photos import write_photo
from benchmark.datasets.tsi import kept_frame, load_tsi, video_folder


def keep_frames(root: Path) -> list[PhotoUnreadable]:
    """Write what is not kept yet; returns what could not be read. Raises DataSetError, OSError."""
    folder, frames = video_folder(root), load_tsi(root)
    photos = [*frames.train, *frames.test]
    broken = []
    for number, photo in enumerate(photos, start=1):
        kept = kept_frame(folder / photo.name)
        if not kept.exists():
            try:
                write_photo(photo.open(), kept)
            except PhotoUnreadable as damage:
                broken.append(damage)
        if number % 100 == 0 or number == len(photos):
            print(f"{number} of {len(photos)} videos", flush=True)
    return broken


def main() -> int:
    """Command line: see ``python -m benchmark.datasets.keep_frames --help``."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m benchmark.datasets.keep_frames"
    )
    parser.add_argument("root", type=Path, help="folder above the videos' folder")
    try:
        broken = keep_frames(parser.parse_args().root)
    except (DataSetError, OSError) as problem:
        print(f"no frames are kept: {problem}")
        return 1
    for damage in broken:
        print(damage)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
