"""Photos as files of a miniature data set, in a folder or packed into a zip archive."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from tests.support.images import photo_bytes

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".ppm": "PPM"}


def write_photos(root: Path, names: Iterable[str]) -> Path:
    """A small photo for each name, in the format of its ending; returns the root."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo_bytes(12, 8, seed=seed, format_=_FORMATS[path.suffix.lower()]))
    return root


def packed(root: Path) -> Path:
    """The same files in a zip archive beside the folder."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path
