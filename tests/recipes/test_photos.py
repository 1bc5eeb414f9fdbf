"""Unpacking an archive of photos, and holding some of them out."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from recipes.bundled_encoder.photos import hold_out, load_photos, read_class_names


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two classes, one red and one green photo each."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("classes.json", json.dumps({"tea_pot": "tea pot", "apple": "apple"}))
        for folder, colour in (("apple", (0, 200, 0)), ("tea_pot", (200, 0, 0))):
            image = io.BytesIO()
            Image.new("RGB", (64, 64), colour).save(image, "PNG")
            file.writestr(f"train/{folder}/0.png", image.getvalue())
    return path


def test_photos_are_numbered_as_classes_json_lists_them(archive: Path, tmp_path: Path) -> None:
    photos = load_photos(archive, "train", tmp_path)
    assert list(read_class_names(archive).values()) == ["tea pot", "apple"]
    red = photos.pixels[photos.labels == 0]
    assert red.shape == (1, 3, 64, 64)
    assert red[0, :, 5, 5].tolist() == [200, 0, 0]


def test_the_second_load_reads_the_cache(archive: Path, tmp_path: Path) -> None:
    first = load_photos(archive, "train", tmp_path)
    archive.unlink()
    assert torch.equal(load_photos(archive, "train", tmp_path).pixels, first.pixels)


def test_an_unnamed_folder_is_refused(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        image = io.BytesIO()
        Image.new("RGB", (64, 64)).save(image, "PNG")
        file.writestr("train/zebra/0.png", image.getvalue())
    with pytest.raises(KeyError, match="zebra"):
        load_photos(archive, "train", tmp_path)


def test_held_out_photos_are_the_last_of_every_class() -> None:
    kept, held_out = hold_out(torch.tensor([0, 1, 0, 1, 0, 1]), 1)
    assert kept.tolist() == [0, 2, 1, 3]
    assert held_out.tolist() == [4, 5]
