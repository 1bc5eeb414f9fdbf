"""Photographs that come with scikit-image and scikit-learn, cut into crops: the bundled controls.

Both packages ship them in their wheels, so any machine has them without a download. Drawings,
patterns and slides are left out: they say little about everyday answers.
"""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from encoder.images import decode_image

PHOTOGRAPHS: tuple[tuple[str, str], ...] = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/moon.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
CROPS_A_PHOTOGRAPH = 9
SIDES = (0.3, 0.8)  # of a crop, as a fraction of the photograph's shorter side
MAX_BYTES = 4 * 1024 * 1024
MAX_PIXELS = 4_000_000


def read_photograph(package: str, path: str) -> Image.Image:
    """One photograph, RGB, found without importing the package.

    Raises FileNotFoundError, encoder.errors.ImageError.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {package!r} is not installed")
    data = Path(spec.origin).parent / path
    return decode_image(data.read_bytes(), max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)


def cut_crops(photograph: Image.Image, *, count: int, seed: str) -> list[Image.Image]:
    """`count` squares of the photograph: the central one, then random sizes and places.

    The same seed gives the same crops on every machine.
    """
    rng = random.Random(seed)
    shorter = min(photograph.size)
    sides = [shorter] + [round(shorter * rng.uniform(*SIDES)) for _ in range(count - 1)]
    crops = []
    for index, side in enumerate(sides):
        spare_x, spare_y = photograph.width - side, photograph.height - side
        left = spare_x // 2 if index == 0 else rng.randint(0, spare_x)
        top = spare_y // 2 if index == 0 else rng.randint(0, spare_y)
        crops.append(photograph.crop((left, top, left + side, top + side)))
    return crops


def bundled_photographs() -> list[Image.Image]:
    """126 crops, always the same and in the same order."""
    return [
        crop
        for package, path in PHOTOGRAPHS
        for crop in cut_crops(read_photograph(package, path), count=CROPS_A_PHOTOGRAPH, seed=path)
    ]
