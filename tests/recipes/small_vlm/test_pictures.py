"""What a small VLM may look at while it learns."""

import io
import json
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.small_vlm.pictures import HELD_OUT_PHOTOS, change, digits, photos, signs

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two classes; the photo's number is its brightness, and `val` is blue."""
    path = tmp_path / "pretrain.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("classes.json", json.dumps({"pig": "pig", "tabby_cat": "tabby cat"}))
        for folder in ("pig", "tabby_cat"):
            for number in range(12):
                opened.writestr(f"train/{folder}/p_{number:02}.webp", picture(number * 20))
            opened.writestr(f"val/{folder}/v_0.webp", picture(0, blue=255))
    return path


def picture(level: int, *, blue: int | None = None) -> bytes:
    """A lossless WebP of one colour."""
    colour = (level, level, level if blue is None else blue)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_no_val_photo_is_among_those_to_train_on(archive: Path) -> None:
    seen = list(photos(archive))
    assert len(seen) == 24
    assert {each.image.getpixel((0, 0)) for each in seen} == {(n * 20,) * 3 for n in range(12)}
    assert [each.image.getpixel((0, 0)) for each in photos(archive, split="val")] == [
        (0, 0, 255),
        (0, 0, 255),
    ]


def test_the_last_photos_of_every_class_are_held_out(archive: Path) -> None:
    kept = [p for p in photos(archive, per_class=3) if not p.held_out]
    held_out = [p for p in photos(archive, per_class=3) if p.held_out]
    assert [p.label for p in kept] == ["pig"] * 3 + ["tabby cat"] * 3
    assert [p.label for p in held_out] == ["pig"] * HELD_OUT_PHOTOS + ["tabby cat"] * 5
    levels = {p.image.getpixel((0, 0)) for p in held_out}
    assert levels.isdisjoint({p.image.getpixel((0, 0)) for p in kept})


def test_digits_are_drawn_the_same_for_the_same_seed() -> None:
    once, again = (list(digits(each=10, seed=5)) for _ in range(2))
    assert [p.label for p in once] == [p.label for p in again]
    assert all(a.image.tobytes() == b.image.tobytes() for a, b in zip(once, again, strict=True))
    assert [p.held_out for p in once].count(True) == 10
    assert len({p.image.tobytes() for p in once}) == 100


def test_a_digit_has_ink_and_paper() -> None:
    for drawn in digits(each=3, seed=1):
        grey = np.asarray(drawn.image.convert("L"), dtype=np.int64)
        assert grey.max() - grey.min() > 60


def test_a_changed_picture_still_shows_its_middle() -> None:
    image = Image.new("RGB", (40, 40), (0, 0, 0))
    image.paste((255, 0, 0), (10, 10, 30, 30))
    for seed in range(20):
        red, green, _ = change(image, random.Random(seed)).resize((9, 9)).getpixel((4, 4))
        assert red > 2 * green + 40


@pytest.mark.skipif(not (LAB / "gtsrb.zip").is_file(), reason=f"no gtsrb.zip at {LAB}")
def test_signs_of_one_track_are_never_on_both_sides() -> None:
    shown = list(signs(LAB, copies=0, seed=0))
    assert len(shown) == 430  # the whole `pretrain/` split, ten a class
    kept = {p.image.tobytes() for p in shown if not p.held_out}
    held_out = {p.image.tobytes() for p in shown if p.held_out}
    assert held_out
    assert kept.isdisjoint(held_out)
    assert len({p.label for p in shown if not p.held_out}) == 43
