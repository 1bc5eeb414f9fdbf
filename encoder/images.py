"""From bytes that a stranger sent to an upright RGB image.

The six formats' readers are called directly: `PIL.Image.open` would try dozens of formats and
compares pixels with a process-wide limit before the caller can see the size. Here the format comes
from the first bytes, the size from the header, and only then are pixels decoded.

Surprises: Pillow reads 16-bit greyscale as `I;16` (white is 65,535) and 16-bit colour as its high
bytes; 32-bit integer and float images have no natural white and are stretched from their least to
their greatest value. A malformed EXIF block is ignored: it says nothing about the pixels.
"""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from encoder.errors import ImageEmpty, ImageTooLarge, ImageTooManyPixels, ImageUndecodable

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "image/jpeg": JpegImageFile,
    "image/png": PngImageFile,
    "image/webp": WebPImageFile,
    "image/gif": GifImageFile,
    "image/bmp": BmpImageFile,
    "image/tiff": TiffImageFile,
}
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
)
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {  # EXIF 2.3, table of Orientation: what brings row 0 to the top and column 0 to the left
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's six readers raise for damaged files; a bomb it detects by itself counts as damage,
# and so does what it only warns about in a process that turns warnings into errors.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    ZeroDivisionError,
    struct.error,
    Image.DecompressionBombError,
    Warning,
)


def image_media_type(data: bytes) -> str:
    """Media type by the first bytes, whatever a client claims. Raises ImageUndecodable."""
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise ImageUndecodable("it is not a JPEG, PNG, WebP, GIF, BMP or TIFF file")


def decode_image(data: bytes, *, max_bytes: int, max_pixels: int) -> Image.Image:
    """Decode to RGB: upright by EXIF, first frame, transparency over white, any mode.

    Raises ImageEmpty, ImageTooLarge (more than `max_bytes`), ImageTooManyPixels (more than
    `max_pixels`, read from the header before any pixel is decoded) or ImageUndecodable, which
    includes truncated files.
    """
    if not data:
        raise ImageEmpty
    if len(data) > max_bytes:
        raise ImageTooLarge(len(data), max_bytes)
    reader = _READERS[image_media_type(data)]
    try:
        image: Image.Image = reader(BytesIO(data), "")
    except _DAMAGE as damage:
        raise ImageUndecodable(_reason(damage)) from damage
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageUndecodable("it has no pixels")
    if width * height > max_pixels:
        raise ImageTooManyPixels(width, height, max_pixels)
    try:
        image.load()
        return _upright(_to_rgb(image), _orientation(image))
    except _DAMAGE as damage:
        raise ImageUndecodable(_reason(damage)) from damage


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _scaled_to_bytes(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = image.convert("RGBA")
    canvas = Image.new("RGB", opaque.size, (255, 255, 255))
    canvas.paste(opaque, mask=opaque.getchannel("A"))
    return canvas


def _scaled_to_bytes(image: Image.Image) -> Image.Image:
    """Greyscale of 16 or 32 bits to 8 bits."""
    values = np.asarray(image).astype(np.float32)  # [H, W]
    if not np.isfinite(values).all():
        raise ImageUndecodable("it has pixels that are not finite numbers")
    low, high = 0.0, 65535.0
    if not image.mode.startswith("I;16"):
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _reason(damage: BaseException) -> str:
    return str(damage).strip() or type(damage).__name__
