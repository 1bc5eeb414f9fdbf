"""Image bytes, ordinary and hostile, made on the spot: nothing is read from disk or the network."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
RED, WHITE = (255, 0, 0), (255, 255, 255)
ORIENTATION = 0x0112  # EXIF tag


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    """The image as a file of this format."""
    buffer = BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def photo(width: int = 48, height: int = 32, *, seed: int = 0) -> Image.Image:
    """Smooth colours that differ from seed to seed, RGB."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def photo_bytes(width: int = 48, height: int = 32, *, seed: int = 0, format_: str = "PNG") -> bytes:
    """`photo` as a file."""
    return encoded(photo(width, height, seed=seed), format_)


def truncated(data: bytes, fraction: float = 0.5) -> bytes:
    """The first part of a file."""
    return data[: int(len(data) * fraction)]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A valid header that promises many pixels, and next to no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * 1024))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def animated_gif() -> bytes:
    """Two frames: red, then white."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in (RED, WHITE))
    return encoded(first, "GIF", save_all=True, append_images=[second], duration=50)


def animated_webp() -> bytes:
    """Two frames: red, then white."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in (RED, WHITE))
    return encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True)


def cmyk_jpeg() -> bytes:
    """A red square in CMYK."""
    return encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)


def palette_png() -> bytes:
    """A red square through a palette."""
    return encoded(Image.new("RGB", (8, 8), RED).quantize(4), "PNG")


def transparent_palette_png() -> bytes:
    """A palette image whose only colour is transparent."""
    return encoded(Image.new("P", (8, 8), 0), "PNG", transparency=0)


def grey_16_bit(format_: str, value: int = 32_768) -> bytes:
    """A square of one 16-bit grey (white is 65,535)."""
    return encoded(Image.fromarray(np.full((8, 8), value, dtype=np.uint16)), format_)


def colour_16_bit_png(value: int = 32_768) -> bytes:
    """A square of 16-bit colour: `value` in red, nothing else."""
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">HHH", value, 0, 0) * 8
    body = png_chunk(b"IDAT", zlib.compress(row * 8))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def float_tiff(low: float = 0.0, high: float = 1.0) -> bytes:
    """Float pixels: `low` in the left half, `high` in the right."""
    values = np.full((8, 8), low, dtype=np.float32)
    values[:, 4:] = high
    return encoded(Image.fromarray(values), "TIFF")


def alpha_png() -> bytes:
    """Left half opaque red, right half fully transparent black."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 4, 8))
    return encoded(image, "PNG")


def rotated_jpeg(orientation: int = 6) -> bytes:
    """Stored 16 x 8 with a red left half; by EXIF 6 it is 8 x 16 with a red top half."""
    image = Image.new("RGB", (16, 8), WHITE)
    image.paste(RED, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image, "JPEG", exif=exif, quality=95)


def jpeg_with_broken_exif() -> bytes:
    """A good JPEG whose EXIF block is noise."""
    return encoded(Image.new("RGB", (8, 8), RED), "JPEG", exif=b"Exif\0\0" + b"\x07" * 40)


def tiff_with_pages() -> bytes:
    """Two pages: red, then white."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in (RED, WHITE))
    return encoded(first, "TIFF", save_all=True, append_images=[second])


def tiff_bomb() -> bytes:
    """A TIFF whose header promises 50,000 x 50,000 pixels."""
    entries = ImageFileDirectory_v2()
    for tag, value in {256: 50_000, 257: 50_000, 258: 8, 259: 1, 262: 1, 273: 8, 279: 64}.items():
        entries[tag] = value
    return b"II*\0" + struct.pack("<I", 8) + entries.tobytes(8)


HOSTILE: dict[str, bytes] = {
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "noise after a signature": b"\xff\xd8\xff" + bytes(range(256)),
    "zeros": bytes(1024),
}
