"""Checks the images of a request, saying which one is refused."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from app.errors import ImageRefused
from app.settings import Settings
from encoder.errors import ImageError
from encoder.images import decode_image


def decoded(image: bytes, place: int | str, settings: Settings) -> Image:
    """The upright RGB image; ``place`` is its number in the request, or its field.

    Raises `ImageRefused`.
    """
    try:
        return decode_image(
            image,
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
        )
    except ImageError as error:
        raise ImageRefused(place, error) from error


def check_images(images: Sequence[bytes | None], settings: Settings) -> None:
    """Decodes those that were sent. Raises `ImageRefused`."""
    for index, image in enumerate(images):
        if image is not None:
            decoded(image, index, settings)
