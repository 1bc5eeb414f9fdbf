"""The photos of `pretrain.zip`, unpacked once into one uint8 array a split.

Legend: N photos, S pixels a side (64).
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

PHOTO_PIXELS = 64


@dataclass(frozen=True)
class Photos:
    """Photos of one split with their class numbers."""

    pixels: Tensor
    """[N, 3, S, S] uint8 RGB"""
    labels: Tensor
    """[N] int64, indices into the class names"""


def read_class_names(archive_path: Path) -> dict[str, str]:
    """Return folder name -> class name, in the order that numbers the classes."""
    with zipfile.ZipFile(archive_path) as archive:
        names = json.loads(archive.read("classes.json"))
    return {str(folder): str(name) for folder, name in names.items()}


def load_photos(archive_path: Path, split: str, cache: Path) -> Photos:
    """Load one split (`train` or `val`), decoding the archive on first use.

    Raises KeyError when the archive holds a folder that `classes.json` does not name.
    """
    pixels_path, labels_path = cache / f"{split}-pixels.npy", cache / f"{split}-labels.npy"
    if not labels_path.exists():
        pixels, labels = _decode(archive_path, split)
        np.save(pixels_path, pixels)
        np.save(labels_path, labels)
    return Photos(
        pixels=torch.from_numpy(np.load(pixels_path)), labels=torch.from_numpy(np.load(labels_path))
    )


def hold_out(labels: Tensor, per_class: int) -> tuple[Tensor, Tensor]:
    """Numbers of the photos to train on, and of the last `per_class` photos of every class."""
    kept, held_out = [], []
    for label in torch.unique(labels):
        members = (labels == label).nonzero().flatten()
        kept.append(members[:-per_class])
        held_out.append(members[-per_class:])
    return torch.cat(kept), torch.cat(held_out)


def _decode(archive_path: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    folders = list(read_class_names(archive_path))
    pixels: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    with zipfile.ZipFile(archive_path) as archive:
        members = sorted(name for name in archive.namelist() if name.startswith(f"{split}/"))
        for member in members:
            if member.endswith("/"):
                continue
            image = Image.open(io.BytesIO(archive.read(member))).convert("RGB")
            pixels.append(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
            labels.append(_class_number(folders, member.split("/")[1]))
    return np.stack(pixels), np.array(labels, dtype=np.int64)


def _class_number(folders: list[str], folder: str) -> int:
    if folder not in folders:
        raise KeyError(f"classes.json does not name the folder {folder!r}")
    return folders.index(folder)
