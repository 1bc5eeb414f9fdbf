"""What every loader gives: photos that are read when they are needed, with labels and groups."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PpmImagePlugin import PpmImageFile

from benchmark.datasets.missing import ClassEmpty, PhotoUnreadable
from encoder.errors import ImageError
from encoder.images import decode_image

SIZE_LIMIT = 2**28
"""Bytes and pixels of a photo: the largest ImageNet validation photo has 34 million pixels."""


@dataclass(frozen=True)
class Photo:
    """One labelled photo.

    name: unique in its split, such as "00014/00003_00012.ppm" · label: row of `DataSet.labels` ·
    group: track, subject or file; photos of one group never go to two parts · open: reads it, RGB;
    raises PhotoUnreadable · update: the one that it belongs to, where several updates
    have the same label.
    """

    name: str
    label: int
    group: str
    open: Callable[[], Image.Image]
    update: int | None = None


@dataclass(frozen=True)
class DataSet:
    """Photos and the answers that are offered for them.

    labels: class names as they stand in prompts · templates: with one "{}" each · updates: rows of
    `labels`, in the published order; () for control sets, as is `train`.
    """

    name: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    updates: tuple[tuple[int, ...], ...]
    train: tuple[Photo, ...]
    test: tuple[Photo, ...]


def read_photo(name: str, path: Path) -> Image.Image:
    """RGB, upright. Raises PhotoUnreadable."""
    try:
        data = path.read_bytes()
    except OSError as damage:
        raise PhotoUnreadable(name, str(damage)) from damage
    return decoded(name, data)


def filed(name: str, path: Path, label: int, group: str) -> Photo:
    """A photo that is a file of its own."""
    return Photo(name, label, group, partial(read_photo, name, path))


def write_photo(image: Image.Image, path: Path) -> None:
    """As PNG, whole or not at all: by way of a hidden file beside it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    image.save(part, "PNG")
    part.replace(path)


def refuse_empty(
    name: str, split: str, labels: Sequence[str], photos: Sequence[Photo], where: Path
) -> None:
    """Raises ClassEmpty, which names every class without a photo."""
    seen = {photo.label for photo in photos}
    empty = [label for row, label in enumerate(labels) if row not in seen]
    if empty:
        raise ClassEmpty(name, split, empty, where)


def decoded(name: str, data: bytes) -> Image.Image:
    """RGB, upright, as the service decodes what it is sent; PPM besides. Raises PhotoUnreadable."""
    try:
        if data.startswith(b"P6"):
            return PpmImageFile(BytesIO(data)).convert("RGB")
        return decode_image(data, max_bytes=SIZE_LIMIT, max_pixels=SIZE_LIMIT)
    except (ImageError, OSError, SyntaxError, ValueError) as damage:
        raise PhotoUnreadable(name, str(damage)) from damage


def cut_by_group(
    photos: Sequence[Photo], share: float, seed: int
) -> tuple[list[Photo], list[Photo]]:
    """The photos for fitting and for validation, which gets `share` of each class's groups.

    No group is in both. A class of one group is fitted on and not validated; one with two groups
    of its own has both parts. Where classes share groups (subjects who do everything) a share is
    met as nearly as whole groups allow, and a class of few groups may lack a part.
    """
    groups: dict[int, set[str]] = defaultdict(set)
    for photo in photos:
        groups[photo.label].add(photo.group)
    kept = kept_groups(groups.values(), share, seed)
    fitting = [photo for photo in photos if photo.group not in kept]
    return fitting, [photo for photo in photos if photo.group in kept]


def kept_groups(classes: Iterable[set[str]], share: float, seed: int) -> set[str]:
    """Of each class's groups, those that are kept for validation.

    What one class decided of a group holds for the next; classes of few groups decide first.
    """
    kept: dict[str, bool] = {}
    for each in sorted(map(sorted, classes), key=lambda groups: (len(groups), groups)):
        random.Random(seed).shuffle(each)
        count = min(max(1, round(share * len(each))), len(each) - 1)
        count -= sum(kept.get(group, False) for group in each)
        for group in each:
            if group not in kept:
                kept[group] = count > 0
                count -= 1
    return {group for group, is_kept in kept.items() if is_kept}
