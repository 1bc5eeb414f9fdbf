"""Stored images as the encoder's pixels, decoded by several threads.

Legend: B images, S image side.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from encoder.errors import ImageError
from encoder.images import decode_image
from encoder.preprocessing import Preprocessing
from registry.artifacts import ArtifactStore
from registry.errors import ArtifactCorrupt, ArtifactMissing
from worker.errors import ImageUnreadable

DECODING_THREADS = 4
ToPixels = Callable[[Image.Image], Tensor]
NO_LIMIT = sys.maxsize
"""The operator's limits are for new images; lowered, they must leave accepted ones readable."""


@dataclass(frozen=True)
class Wanted:
    """One image, and who needs it, for the error message."""

    image_sha256: str
    owner: str


@dataclass(frozen=True)
class ImageReader:
    """Reads images from the store as the base encoder's preprocessing wants them."""

    store: ArtifactStore
    preprocessing: Preprocessing

    def read(self, wanted: Sequence[Wanted]) -> Tensor:
        """uint8 [B, 3, S, S], in order. Raises ImageUnreadable, StorageUnavailable."""
        side = self.preprocessing.image_size
        if not wanted:
            return torch.empty(0, 3, side, side, dtype=torch.uint8)
        return torch.stack(self.read_as(wanted, self.preprocessing.to_pixels))

    def read_as(self, wanted: Sequence[Wanted], to_pixels: ToPixels) -> list[Tensor]:
        """As `read`, for whoever wants other pixels of an upright RGB image."""
        with ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode") as pool:
            return list(pool.map(partial(self._read_one, to_pixels), wanted))

    def _read_one(self, to_pixels: ToPixels, wanted: Wanted) -> Tensor:
        try:
            data = self.store.get(wanted.image_sha256)
            image = decode_image(data, max_bytes=NO_LIMIT, max_pixels=NO_LIMIT)
        except (ImageError, ArtifactMissing, ArtifactCorrupt) as error:
            raise ImageUnreadable(wanted.image_sha256, wanted.owner, str(error)) from error
        return to_pixels(image)
