"""The demo's pictures: digits and photographs from pinned libraries, or a user's folder.

scikit-learn carries 1,797 handwritten digits of 8 x 8 pixels; scikit-image and scikit-learn carry a
few public photographs, from which control crops are cut. Nothing is downloaded.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from skimage import data as skimage_data
from sklearn.datasets import load_digits, load_sample_image

SIDE = 128  # pixels a side of the digits and crops that are sent
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
CORRECTIONS_A_LABEL, HELD_OUT_A_LABEL = 10, 30
CROPS_A_PHOTO = 10
Picture = TypeVar("Picture", bytes, Path)  # a file's content, or where it is


class UnusableFolder(Exception):
    """The folder given with IMAGES= cannot tell the story; says what it should hold."""


@dataclass(frozen=True)
class Pictures:
    """Files and their labels, in one order."""

    images: list[bytes]
    labels: list[str]


@dataclass(frozen=True)
class Material:
    """What one run shows: what is corrected, what is only asked, and what must not change."""

    what: str
    corrections: Pictures
    held_out: Pictures
    control: list[bytes]
    unseen: list[bytes]
    template: str
    question: str


def digits(seed: int) -> Material:
    """Ten corrections and thirty held-out pictures of each handwritten digit."""
    source = load_digits()
    by_label: dict[str, list[bytes]] = {name: [] for name in DIGIT_NAMES}
    for ink, digit in zip(source.images, source.target, strict=True):
        # 0..16 grey levels of ink; shown as dark ink on white paper.
        paper = (255 - ink * (255 / 16)).astype(np.uint8)
        picture = Image.fromarray(paper).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        by_label[DIGIT_NAMES[digit]].append(_png(picture))
    control, unseen = control_crops(seed)
    corrections, held_out = (_pictures(part) for part in _split(by_label, seed))
    what = "handwritten digits (scikit-learn)"
    return Material(
        what,
        corrections,
        held_out,
        control,
        unseen,
        "a photo of the number {}.",
        "What digit is this?",
    )


def folder(path: Path, seed: int) -> Material:
    """A user's pictures, one sub-folder a label: up to ten corrections and thirty held out a label.

    The folder may be large: only what is drawn is read. Raises :class:`UnusableFolder` without two
    labels of at least two pictures each, and for what cannot be read.
    """
    if not path.is_dir():
        raise UnusableFolder(f"'{path}' is not a folder")
    try:
        corrections, held_out = (
            _pictures([(label, file.read_bytes()) for label, file in part])
            for part in _split(_files(path), seed)
        )
    except OSError as problem:
        raise UnusableFolder(f"'{path}' cannot be read: {problem}") from problem
    control, unseen = control_crops(seed)
    return Material(
        str(path), corrections, held_out, control, unseen, "a photo of a {}.", "What is this?"
    )


def _files(path: Path) -> dict[str, list[Path]]:
    """The pictures of every sub-folder, by its name. Raises :class:`UnusableFolder`."""
    by_label = {
        sub.name: [file for file in sorted(sub.iterdir()) if _is_picture(file)]
        for sub in sorted(path.iterdir())
        if sub.is_dir() and not sub.name.startswith(".")
    }
    if len(by_label) < 2:
        raise UnusableFolder(f"'{path}' needs one sub-folder a label, two labels at least")
    for label, files in by_label.items():
        if len(files) < 2:
            raise UnusableFolder(
                f"'{path / label}' holds {len(files)} pictures, but two are needed at least: "
                f"one to correct, one to hold out (formats: {', '.join(sorted(PICTURE_SUFFIXES))})"
            )
    return by_label


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES


def _split(
    by_label: Mapping[str, Sequence[Picture]], seed: int
) -> tuple[list[tuple[str, Picture]], list[tuple[str, Picture]]]:
    """Corrections and held-out pictures, each with its label; no picture is in both."""
    draw = random.Random(seed)
    corrections: list[tuple[str, Picture]] = []
    held_out: list[tuple[str, Picture]] = []
    for label, pictures in by_label.items():
        shuffled = draw.sample(pictures, len(pictures))
        taken = min(CORRECTIONS_A_LABEL, len(pictures) // 2)
        corrections += [(label, picture) for picture in shuffled[:taken]]
        held_out += [(label, picture) for picture in shuffled[taken : taken + HELD_OUT_A_LABEL]]
    return corrections, held_out


def _pictures(drawn: Sequence[tuple[str, bytes]]) -> Pictures:
    return Pictures([image for _, image in drawn], [label for label, _ in drawn])


# Photographs that ship inside the packages. The more kinds are sent, the better the service knows
# what must stay; four of everyday things are kept back and never sent.
SENT: tuple[Callable[[], np.ndarray], ...] = (
    skimage_data.astronaut,
    skimage_data.camera,
    skimage_data.coins,
    skimage_data.grass,
    skimage_data.gravel,
    skimage_data.brick,
    skimage_data.hubble_deep_field,
    skimage_data.immunohistochemistry,
    skimage_data.moon,
    skimage_data.page,
    skimage_data.retina,
    lambda: load_sample_image("china.jpg"),
)
KEPT_BACK: tuple[Callable[[], np.ndarray], ...] = (
    skimage_data.chelsea,
    skimage_data.coffee,
    skimage_data.rocket,
    lambda: load_sample_image("flower.jpg"),
)


def control_crops(seed: int) -> tuple[list[bytes], list[bytes]]:
    """Crops that are sent as a control set, and crops of other photographs that are not."""
    draw = random.Random(seed)
    sent, kept_back = (
        [_png(crop) for each in part for crop in _crops(_as_image(each()), draw)]
        for part in (SENT, KEPT_BACK)
    )
    return sent, kept_back


def _crops(picture: Image.Image, draw: random.Random) -> list[Image.Image]:
    return [_crop(picture, draw) for _ in range(CROPS_A_PHOTO)]


def _as_image(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    return Image.fromarray(np.asarray(pixels)).convert("RGB")


def _crop(picture: Image.Image, draw: random.Random) -> Image.Image:
    """A square of most of the shorter side, or all of it."""
    side = int(min(picture.size) * draw.uniform(0.7, 1.0))
    left = draw.randint(0, picture.width - side)
    top = draw.randint(0, picture.height - side)
    return picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
