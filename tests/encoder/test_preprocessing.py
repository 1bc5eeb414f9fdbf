from __future__ import annotations

import dataclasses
import resource

import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from encoder.preprocessing import Preprocessing
from tests.support.images import photo

MODES = ("shortest", "longest", "squash")


def preprocessing(
    mode: str = "shortest", side: int = 32, filter_: str = "bicubic"
) -> Preprocessing:
    return Preprocessing(side, (0.48, 0.45, 0.4), (0.26, 0.25, 0.27), filter_, mode, 7)


def open_clip_transform(ours: Preprocessing, image: Image.Image) -> torch.Tensor:
    known = {field.name: getattr(ours, field.name) for field in dataclasses.fields(ours)}
    config = PreprocessCfg(size=known.pop("image_size"), **known)
    result: torch.Tensor = image_transform_v2(config, is_train=False)(image)
    return result


@pytest.mark.parametrize("filter_", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(32, 32), (61, 40), (17, 90), (1, 1), (200, 13)])
def test_both_halves_together_are_bit_equal_to_open_clip(
    size: tuple[int, int], mode: str, filter_: str
) -> None:
    ours, image = preprocessing(mode, filter_=filter_), photo(*size)
    pixels = ours.to_pixels(image)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 32, 32)
    assert torch.equal(ours.normalise(pixels[None])[0], open_clip_transform(ours, image))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 200), (1, 1_000_000)])
def test_extreme_images_are_scaled_in_bounded_memory(size: tuple[int, int], mode: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = preprocessing(mode, side=224).to_pixels(Image.new("RGB", size, (10, 20, 30)))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pixels.shape == (3, 224, 224)
    shown = {tuple(pixel) for pixel in pixels.flatten(1).T.tolist()}
    assert shown == {(10, 20, 30), (7, 7, 7)} if mode == "longest" else {(10, 20, 30)}
    assert after - before < 100_000  # KiB; scaled whole, 224 x 1,120,000 pixels would take 1 GB


@pytest.mark.parametrize("mode", MODES)
def test_the_extreme_path_shows_what_the_ordinary_one_shows(mode: str) -> None:
    ours, image = preprocessing(mode), photo(20, 400)
    direct = torch.tensor(list(ours._extreme(image).convert("RGB").tobytes()))
    whole = image
    for step in ours._geometry:
        whole = step(whole)
    ordinary = torch.tensor(list(whole.convert("RGB").tobytes()))
    assert (direct - ordinary).abs().max() <= 2


def test_open_clip_settings_are_read() -> None:
    config = {"size": (32, 32), "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "interpolation": None}
    ours = Preprocessing.from_open_clip(config)
    assert ours == Preprocessing(32, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="not square"):
        Preprocessing.from_open_clip({"size": (32, 48), "mean": [0, 0, 0], "std": [1, 1, 1]})
