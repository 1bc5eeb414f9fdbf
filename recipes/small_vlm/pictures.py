"""The pictures that a small VLM learns from, each with its label.

Everyday photos come from `pretrain.zip`, traffic signs from the `pretrain/` split of `gtsrb.zip`
(the split that the lab's base has seen; the others are for measuring edits), digits are drawn with
Pillow's own font. A held-out picture is never trained on; whatever is chosen is chosen on those.
"""

import io
import json
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from recipes.bundled_encoder.photos import read_class_names

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT_PHOTOS = 5
"""a class: the last ones of `train/`, those that the bundled encoder was not trained on either"""
_CANVAS = 64


@dataclass(frozen=True)
class Picture:
    """An RGB image and what it shows."""

    image: Image.Image
    label: str
    held_out: bool


def photos(
    archive: Path, *, split: str = "train", per_class: int | None = None, seed: int = 0
) -> Iterator[Picture]:
    """Photos of `pretrain.zip`, class by class; of `train` the last few of each are held out.

    `per_class` limits those that are not held out; half of these are mirrored.
    """
    names, draw = read_class_names(archive), random.Random(seed)
    with zipfile.ZipFile(archive) as opened:
        members = sorted(n for n in opened.namelist() if n.startswith(f"{split}/") and n[-1] != "/")
        for folder, grouped in groupby(members, key=lambda member: member.split("/")[1]):
            files = list(grouped)
            kept, held_out = files, []
            if split == "train":
                kept, held_out = files[:-HELD_OUT_PHOTOS], files[-HELD_OUT_PHOTOS:]
            for file in [*kept[:per_class], *held_out]:
                image = Image.open(io.BytesIO(opened.read(file))).convert("RGB")
                trained = split == "train" and file not in held_out
                if trained and draw.random() < 0.5:
                    image = ImageOps.mirror(image)
                yield Picture(image, names[folder], file in held_out)


def sign_names(lab: Path) -> dict[str, str]:
    """Two-digit class number -> the sign's name."""
    names = json.loads((lab / "classes-gtsrb.json").read_text())["names"]
    return {str(number): str(name) for number, name in names.items()}


def signs(lab: Path, *, copies: int, seed: int) -> Iterator[Picture]:
    """Each sign of the `pretrain/` split and `copies` changed ones of it.

    The last track of every class that has several is held out, as it is: frames of one track are
    near-duplicates.
    """
    names, draw = sign_names(lab), random.Random(seed)
    with zipfile.ZipFile(lab / "gtsrb.zip") as opened:
        members = sorted(n for n in opened.namelist() if n.startswith("pretrain/") and n[-1] != "/")
        for number, grouped in groupby(members, key=lambda member: member.split("/")[1]):
            files = list(grouped)
            tracks = sorted({_track(file) for file in files})
            for file in files:
                image = Image.open(io.BytesIO(opened.read(file))).convert("RGB")
                held_out = len(tracks) > 1 and _track(file) == tracks[-1]
                yield Picture(image, names[number], held_out)
                for _ in range(0 if held_out else copies):
                    yield Picture(change(image, draw), names[number], held_out=False)


def change(image: Image.Image, draw: random.Random) -> Image.Image:
    """Another view of the same thing: turned a little, cut, darker or brighter, coarser."""
    width, height = image.size
    turned = image.rotate(draw.uniform(-8, 8), Image.Resampling.BILINEAR, fillcolor=_mean(image))
    side = draw.choice((24, 32, 48, 64, 96))
    canvas = Image.new("RGB", (width * 2, height * 2), _mean(image))
    canvas.paste(turned, (width // 2, height // 2))
    left, top, right, bottom = (draw.uniform(-0.08, 0.12) for _ in range(4))
    box = (
        width * (0.5 + left),
        height * (0.5 + top),
        width * (1.5 - right),
        height * (1.5 - bottom),
    )
    view = canvas.resize((side, side), Image.Resampling.BILINEAR, box=box)
    view = ImageEnhance.Brightness(view).enhance(draw.uniform(0.5, 1.6))
    view = ImageEnhance.Contrast(view).enhance(draw.uniform(0.6, 1.4))
    return ImageEnhance.Color(view).enhance(draw.uniform(0.6, 1.3))


def digits(*, each: int, seed: int) -> Iterator[Picture]:
    """`each` drawings of every digit, dark on light or light on dark; every tenth is held out."""
    draw = random.Random(seed)
    for digit, name in enumerate(DIGITS):
        for number in range(each):
            yield Picture(_draw_digit(digit, draw), name, number % 10 == 9)


def _draw_digit(digit: int, draw: random.Random) -> Image.Image:
    paper, ink = draw.randint(170, 255), draw.randint(0, 90)
    if draw.random() < 0.3:
        paper, ink = ink, paper
    canvas = Image.new("L", (_CANVAS, _CANVAS), paper)
    font = ImageFont.load_default(size=draw.uniform(34, 66))
    centre = (_CANVAS / 2 + draw.uniform(-6, 6), _CANVAS / 2 + draw.uniform(-6, 6))
    stroke = draw.choice((0, 1, 1, 2, 3))
    ImageDraw.Draw(canvas).text(
        centre, str(digit), fill=ink, font=font, anchor="mm", stroke_width=stroke, stroke_fill=ink
    )
    slant = draw.uniform(-0.25, 0.25)
    stretch = draw.uniform(0.85, 1.35)
    matrix = (stretch, slant, _CANVAS / 2 * (1 - stretch - slant), 0.0, 1.0, 0.0)
    canvas = canvas.transform(
        canvas.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=paper
    )
    coarse = draw.choice((10, 14, 20, 32, _CANVAS))
    canvas = canvas.resize((coarse, coarse), Image.Resampling.BOX)
    return canvas.resize((_CANVAS, _CANVAS), Image.Resampling.BICUBIC).convert("RGB")


def _track(member: str) -> str:
    return member.rsplit("/", 1)[1].split("_")[0]


def _mean(image: Image.Image) -> tuple[int, int, int]:
    red, green, blue = image.resize((1, 1), Image.Resampling.BOX).tobytes()
    return red, green, blue
