from __future__ import annotations

import random
import tracemalloc

import pytest
from PIL import Image, ImageOps

from encoder.errors import (
    ImageEmpty,
    ImageError,
    ImageTooLarge,
    ImageTooManyPixels,
    ImageUndecodable,
)
from encoder.images import decode_image, image_media_type
from tests.support import images

MAX_BYTES, MAX_PIXELS = 1_000_000, 1_000_000


def decode(data: bytes) -> Image.Image:
    image = decode_image(data, max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """First and last pixel, rounded to full colours (JPEG is a little off)."""
    found = [image.getpixel((0, 0)), image.getpixel((image.width - 1, image.height - 1))]
    return [tuple(round(value / 8) * 8 for value in pixel) for pixel in found]


RED, WHITE = (256, 0, 0), (256, 256, 256)


@pytest.mark.parametrize("format_", images.FORMATS)
def test_every_format_is_told_by_its_first_bytes_and_decoded(format_: str) -> None:
    data = images.photo_bytes(48, 32, format_=format_)
    assert image_media_type(data) == f"image/{format_.lower()}"
    assert decode(data).size == (48, 32)


def test_lossless_pixels_arrive_unchanged() -> None:
    photo = images.photo()
    assert decode(images.encoded(photo, "PNG")).tobytes() == photo.tobytes()


@pytest.mark.parametrize("name", sorted(images.HOSTILE))
def test_what_is_no_image_is_refused(name: str) -> None:
    with pytest.raises(ImageUndecodable):
        decode(images.HOSTILE[name])


def test_no_bytes_are_refused() -> None:
    with pytest.raises(ImageEmpty):
        decode(b"")


def test_more_bytes_than_allowed_are_refused_with_both_numbers() -> None:
    data = images.photo_bytes()
    with pytest.raises(ImageTooLarge) as caught:
        decode_image(data, max_bytes=len(data) - 1, max_pixels=MAX_PIXELS)
    assert (caught.value.bytes, caught.value.limit) == (len(data), len(data) - 1)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("format_", images.FORMATS)
def test_truncated_files_are_refused(format_: str, fraction: float) -> None:
    with pytest.raises(ImageUndecodable):
        decode(images.truncated(images.photo_bytes(format_=format_), fraction))


@pytest.mark.parametrize("bomb", [images.png_bomb(), images.tiff_bomb()], ids=["png", "tiff"])
def test_a_bomb_is_refused_by_its_header(bomb: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ImageTooManyPixels) as caught:
        decode_image(bomb, max_bytes=MAX_BYTES, max_pixels=50_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (caught.value.width, caught.value.height) == (50_000, 50_000)
    assert peak < 10_000_000


def test_the_pixel_limit_is_inclusive() -> None:
    data = images.photo_bytes(40, 25)
    assert decode_image(data, max_bytes=MAX_BYTES, max_pixels=1000).size == (40, 25)
    with pytest.raises(ImageTooManyPixels):
        decode_image(data, max_bytes=MAX_BYTES, max_pixels=999)


@pytest.mark.parametrize(
    "data",
    [images.animated_gif(), images.animated_webp(), images.tiff_with_pages()],
    ids=["gif", "webp", "tiff"],
)
def test_animations_and_pages_give_their_first_frame(data: bytes) -> None:
    assert corners(decode(data)) == [RED, RED]


def test_cmyk_and_palettes_become_rgb() -> None:
    assert corners(decode(images.cmyk_jpeg())) == [RED, RED]
    assert corners(decode(images.palette_png())) == [RED, RED]


def test_transparency_is_laid_over_white() -> None:
    assert corners(decode(images.alpha_png())) == [RED, WHITE]
    assert corners(decode(images.transparent_palette_png())) == [WHITE, WHITE]


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_its_white(format_: str) -> None:
    for value, expected in [(0, 0), (257, 1), (32_768, 128), (65_535, 255)]:
        pixel = decode(images.grey_16_bit(format_, value)).getpixel((0, 0))
        assert pixel == (expected,) * 3


def test_16_bit_colour_keeps_its_brightness() -> None:
    assert decode(images.colour_16_bit_png(32_768)).getpixel((3, 3)) == (128, 0, 0)


def test_float_images_are_stretched_over_their_range() -> None:
    ramp = decode(images.float_tiff(-3.0, 5.0))
    assert [ramp.getpixel((x, 0))[0] for x in (0, 7)] == [0, 255]
    assert decode(images.float_tiff(2.0, 2.0)).getpixel((0, 0)) == (0, 0, 0)


def test_float_images_with_infinities_are_refused() -> None:
    with pytest.raises(ImageUndecodable, match="finite"):
        decode(images.float_tiff(0.0, float("inf")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_brought_upright(orientation: int) -> None:
    data = images.rotated_jpeg(orientation)
    with Image.open(images.BytesIO(data)) as stored:
        expected = ImageOps.exif_transpose(stored).convert("RGB")
    upright = decode(data)
    assert upright.size == expected.size
    assert upright.tobytes() == expected.tobytes()


def test_a_rotated_tiff_is_turned_once() -> None:
    stored = Image.new("RGB", (16, 8), images.WHITE)
    stored.paste(images.RED, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    upright = decode(images.encoded(stored, "TIFF", exif=exif))
    assert upright.size == (8, 16)
    assert corners(upright) == [RED, WHITE]


def test_a_broken_exif_block_does_not_cost_the_image() -> None:
    assert corners(decode(images.jpeg_with_broken_exif())) == [RED, RED]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_odd_sizes_are_decoded(size: tuple[int, int]) -> None:
    assert decode(images.photo_bytes(*size)).size == size


@pytest.mark.parametrize("format_", images.FORMATS)
def test_damaged_files_are_decoded_or_refused_but_never_crash(format_: str) -> None:
    generator = random.Random(format_)
    whole = images.photo_bytes(format_=format_)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(generator.choice([1, 3, 8])):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        try:
            decode(bytes(damaged))
        except ImageError:
            refused += 1
    assert refused
