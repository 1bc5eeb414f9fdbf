"""Folders of photos, on disk or in a zip archive, which is read in place."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from benchmark.datasets.missing import PhotoUnreadable, SetMalformed, SetMissing
from benchmark.datasets.photos import SIZE_LIMIT, Photo, decoded

PHOTOS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings, in whatever case."""
_LEFT_BEHIND = frozenset({"desktop.ini", "thumbs.db"})  # by operating systems, like hidden files
_UNPACKING = (OSError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Tree:
    """Files under one root; what operating systems leave behind is not among them.

    names: sorted, relative to the root, with "/" · size and read: of a file by its name.
    """

    root: Path
    names: tuple[str, ...]
    size: Callable[[str], int]
    read: Callable[[str], bytes]

    def photo(self, name: str, label: int, group: str) -> Photo:
        """The file as a photo. Raises SetMalformed if it does not end like one."""
        if PurePosixPath(name).suffix.lower() not in PHOTOS:
            raise SetMalformed(self.root, name, "it is no photo by its ending")
        return Photo(name, label, group, partial(_opened, self, name))


def open_tree(set_name: str, root: Path) -> Tree:
    """A folder or a zip archive. Raises SetMissing, SetMalformed (it is neither)."""
    if root.is_dir():
        files = (path for path in root.rglob("*") if path.is_file())
        names = (path.relative_to(root).as_posix() for path in files)
        return Tree(
            root=root,
            names=_kept(names),
            size=lambda name: (root / name).stat().st_size,
            read=lambda name: (root / name).read_bytes(),
        )
    if not root.exists():
        raise SetMissing(set_name, "the folder or zip archive", [root])
    try:
        archive = zipfile.ZipFile(root)
    except zipfile.BadZipFile as error:
        reason = f"it is no folder and no zip archive ({error})"
        raise SetMalformed(root, "the file", reason) from error
    return Tree(
        root=root,
        names=_kept(info.filename for info in archive.infolist() if not info.is_dir()),
        size=lambda name: archive.getinfo(name).file_size,
        read=archive.read,
    )


def _kept(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if not _is_left_behind(PurePosixPath(name))))


def _is_left_behind(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return hidden or path.name.lower() in _LEFT_BEHIND


def _opened(tree: Tree, name: str) -> Image.Image:
    """RGB, upright. Raises PhotoUnreadable, also for an archive that cannot be unpacked there."""
    try:
        size = tree.size(name)
        if size > SIZE_LIMIT:
            raise PhotoUnreadable(name, f"it has {size} bytes, at most {SIZE_LIMIT} are read")
        data = tree.read(name)
    except _UNPACKING as damage:
        raise PhotoUnreadable(name, str(damage)) from damage
    return decoded(name, data)
