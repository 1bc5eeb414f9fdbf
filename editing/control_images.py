"""The images of several control sets, each of them once.

The same photographs often stand in two sets, ten-way and thousand-way. They are embedded once, and
an image that trained the guard term through one set is seen in the others too.

Legend: U different images, M images of one set, S image side, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b

import torch
from torch import Tensor

from editing.control import ControlSet


class ControlImages:
    """`sets` are the control sets with `seen` shared between them."""

    def __init__(self, sets: Sequence[ControlSet]) -> None:
        first: dict[bytes, int] = {}
        self._rows: list[Tensor] = []  # long [M] into the different images, one a set
        self._images: list[Tensor] = []  # uint8 [3, S, S], U of them
        for control in sets:
            found = []
            for image in control.pixels:
                key = blake2b(image.contiguous().numpy().data, digest_size=16).digest()
                if key not in first:
                    first[key] = len(self._images)
                    self._images.append(image)
                found.append(first[key])
            self._rows.append(torch.tensor(found))
        seen = torch.zeros(len(self._images), dtype=torch.bool)
        for control, rows in zip(sets, self._rows, strict=True):
            if control.seen is not None:
                seen[rows[control.seen]] = True
        self.sets = [
            replace(control, seen=seen[rows])
            for control, rows in zip(sets, self._rows, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._images)

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All different images, uint8 [size or fewer, 3, S, S] at a time."""
        for start in range(0, len(self._images), size):
            yield torch.stack(self._images[start : start + size])

    def of_each_set(self, features: Tensor) -> list[Tensor]:
        """From features [U, E] of the different images to [M, E] for each set."""
        return [features[rows] for rows in self._rows]
