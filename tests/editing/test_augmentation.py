from __future__ import annotations

import torch
from torch import Tensor

from editing.augmentation import Augmentation
from tests.support.edit_task import STILL
from tests.support.tiny_encoder import SIDE, random_pixels

WILD = Augmentation(crop=0.3, stretch=0.5, rotation=20, jitter=0.6, grayscale=0.5)


def varied(augmentation: Augmentation, pixels: Tensor, seed: int = 0) -> Tensor:
    return augmentation.apply(pixels, torch.Generator().manual_seed(seed))


def test_switched_off_it_changes_nothing() -> None:
    pixels = random_pixels(5)
    assert torch.equal(varied(STILL, pixels), pixels)


def test_a_share_of_it_lies_between_all_and_none() -> None:
    assert WILD.weaker(1) == WILD
    assert WILD.weaker(0) == STILL
    half = Augmentation(crop=0.65, stretch=0.25, rotation=10, jitter=0.3, grayscale=0.25)
    assert WILD.weaker(0.5) == half


def test_it_keeps_shape_and_type_and_varies_every_image() -> None:
    pixels = random_pixels(5)
    images = varied(WILD, pixels)
    assert images.dtype == torch.uint8
    assert images.shape == pixels.shape
    assert all(not torch.equal(before, after) for before, after in zip(pixels, images, strict=True))


def test_it_depends_on_the_generator_alone() -> None:
    pixels = random_pixels(5)
    assert torch.equal(varied(WILD, pixels, 1), varied(WILD, pixels, 1))
    assert not torch.equal(varied(WILD, pixels, 1), varied(WILD, pixels, 2))


def test_images_are_never_mirrored_nor_turned_over() -> None:
    ramp = torch.linspace(0, 255, SIDE).to(torch.uint8)
    across = ramp.expand(64, 3, SIDE, SIDE)
    rightward = varied(WILD, across).float().diff(dim=3).mean(dim=(1, 2, 3))
    downward = varied(WILD, across.transpose(2, 3)).float().diff(dim=2).mean(dim=(1, 2, 3))
    assert bool((rightward > 0).all())
    assert bool((downward > 0).all())


def test_a_crop_shows_part_of_the_image_only() -> None:
    ramp = torch.linspace(0, 255, SIDE).to(torch.uint8).expand(32, 3, SIDE, SIDE)
    images = varied(
        Augmentation(crop=0.25, stretch=0, rotation=0, jitter=0, grayscale=0), ramp
    ).float()
    spans = images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))
    assert float(spans.max()) < 255
    assert 110 < float(spans.min()) < 200  # at least half a side: a quarter of the area


def test_grayscale_makes_channels_equal() -> None:
    gray = Augmentation(crop=1, stretch=0, rotation=0, jitter=0, grayscale=1)
    images = varied(gray, random_pixels(3))
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
