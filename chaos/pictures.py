"""Generated images: noise in a label's colour, so that a tiny encoder can be taught which is which.

Equal arguments, equal bytes; another number, another image.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 32  # pixels
NOISE = 20  # levels of 256
COLOURS = {  # as many as a tiny encoder can be taught beyond doubt
    "apple": (200, 30, 30),
    "leaf": (30, 180, 40),
    "sea": (20, 60, 200),
}
LABELS = tuple(COLOURS)
LABEL_SET, SAME_LABELS = "things", "the-same-things"
CONTROL_SET = "chessboards"
NO_PICTURE = b"this is no picture"


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    data: bytes
    label: str
    sha256: str


def picture(seed: int, number: int) -> Picture:
    """The picture of that number; labels take turns."""
    label = LABELS[number % len(LABELS)]
    rng = np.random.default_rng((seed, number))
    noise = rng.integers(-NOISE, NOISE + 1, (SIDE, SIDE, 3))
    pixels = np.clip(noise + np.array(COLOURS[label]), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = file.getvalue()
    return Picture(data, label, hashlib.sha256(data).hexdigest())


def another_label(label: str) -> str:
    """The one after it."""
    return LABELS[(LABELS.index(label) + 1) % len(LABELS)]


def chessboard() -> bytes:
    """What no correction shows: the picture of a control set."""
    board = np.kron(np.eye(2, dtype=np.uint8) * 255, np.ones((SIDE // 2,) * 2, dtype=np.uint8))
    file = io.BytesIO()
    Image.fromarray(board).save(file, "PNG")
    return file.getvalue()
