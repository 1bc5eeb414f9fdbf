"""The hidden tokens of a frozen tower, computed once and kept as half precision in one file.

Legend: N pictures, S pixels a side, T tokens (class token first), W tower width.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.clip import Encoder
from encoder.vlm.reading import TowerReading, read_tokens
from recipes.small_vlm.pictures import Picture

_BATCH = 50


@dataclass(frozen=True)
class TokenFile:
    """Tokens of many pictures, mapped from a file, and what the pictures show."""

    tokens: npt.NDArray[np.float16]
    """[N, T, W]"""
    labels: list[str]
    held_out: npt.NDArray[np.bool_]
    """[N]"""

    def rows(self, numbers: npt.NDArray[np.int64], *, class_token: bool) -> Tensor:
        """fp32 [len(numbers), T or T - 1, W]."""
        first = 0 if class_token else 1
        return torch.from_numpy(self.tokens[numbers][:, first:].astype(np.float32))


@torch.no_grad()
def tower_tokens(encoder: Encoder, pixels: Tensor) -> Tensor:
    """uint8 [B, 3, S, S] -> fp32 [B, T, W] before the last block, without a final norm."""
    reading = TowerReading(
        blocks=len(encoder.tower.blocks) - 1,
        class_token=True,
        image_size=encoder.preprocessing.image_size,
    )
    visual = encoder.model.get_submodule("visual")
    return read_tokens(visual, encoder.preprocessing.normalise(pixels), reading)


def compute_tokens(encoder: Encoder, pictures: Callable[[], Iterator[Picture]], path: Path) -> None:
    """Write the tokens of all pictures to `path` and their labels beside it.

    Does nothing when they are there. `pictures` is gone through twice: they are counted first.
    """
    if labels_path(path).exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [(each.label, each.held_out) for each in pictures()]
    mapped: np.memmap[Any, np.dtype[np.float16]] | None = None
    done, source = 0, pictures()
    while batch := list(islice(source, _BATCH)):
        pixels = torch.stack([encoder.preprocessing.to_pixels(each.image) for each in batch])
        tokens = tower_tokens(encoder, pixels).half().numpy()
        if mapped is None:
            shape = (len(shown), *tokens.shape[1:])
            mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        mapped[done : done + len(batch)] = tokens
        done += len(batch)
        if done % (100 * _BATCH) == 0:
            print(f"tokens of {done:,} of {len(shown):,} pictures", flush=True)
    if mapped is not None:
        mapped.flush()
    told = {"labels": [label for label, _ in shown], "held_out": [out for _, out in shown]}
    labels_path(path).write_text(json.dumps(told))


def load_tokens(path: Path) -> TokenFile:
    """Map what `compute_tokens` wrote."""
    told = json.loads(labels_path(path).read_text())
    tokens = np.load(path, mmap_mode="r")
    return TokenFile(tokens, told["labels"], np.array(told["held_out"]))


def labels_path(path: Path) -> Path:
    """Where the labels of a token file lie; written last, so it marks a finished one."""
    return path.with_suffix(".json")
