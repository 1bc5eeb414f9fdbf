"""The model card's numbers, measured on finished files through stock open_clip alone.

Legend: N photos, C classes, D features.
"""

import io
import json
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from recipes.bundled_encoder.evaluation import Accuracy, score
from recipes.bundled_encoder.photos import read_class_names
from recipes.bundled_encoder.text_tower import embed_names

_BATCH = 100


@dataclass(frozen=True)
class Measurement:
    """Zero-shot accuracy on photos that nothing was trained on, and the image tower's speed."""

    photos: int
    accuracy: Accuracy
    photos_per_second: float
    photos_per_core_second: float
    """by processor time: steadier on a busy machine"""

    def __str__(self) -> str:
        return (
            f"{self.photos} unseen photos: {self.accuracy.top1:.2f} % top-1, "
            f"{self.accuracy.top5:.2f} % top-5\n"
            f"{self.photos_per_second:.0f} photos/s with {torch.get_num_threads()} threads, "
            f"{self.photos_per_core_second:.0f} for each second of one core"
        )


@torch.no_grad()
def measure_encoder(
    folder: Path, archive_path: Path, *, per_class: int | None = None
) -> Measurement:
    """Classify the `val` photos of the archive, or the first `per_class` of each class.

    `folder` is what `export_encoder` writes; the photos pass its own preprocessing.
    """
    location = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(location)
    model.eval()
    asked = json.loads((folder / "labels.json").read_text())
    tokenizer = open_clip.get_tokenizer(location)
    rows = embed_names(model, tokenizer, asked["labels"], tuple(asked["templates"]))
    pictures, names = _unseen(archive_path, per_class)
    labels = torch.tensor([asked["labels"].index(name) for name in names])
    images = torch.stack([preprocess(picture) for picture in pictures])  # [N, 3, S, S]
    model.encode_image(images[:_BATCH])  # the first pass is slower
    wall, cores = time.perf_counter(), time.process_time()
    features = _embed(model, images)
    wall, cores = time.perf_counter() - wall, time.process_time() - cores
    count = len(images)
    return Measurement(count, score(features, rows, labels), count / wall, count / cores)


def _embed(model: open_clip.CLIP, images: Tensor) -> Tensor:
    """Normalised features [N, D]."""
    parts = [model.encode_image(part) for part in torch.split(images, _BATCH)]
    return F.normalize(torch.cat(parts), dim=-1)


def _unseen(archive_path: Path, per_class: int | None) -> tuple[list[Image.Image], list[str]]:
    """The `val` photos and the names of their classes."""
    class_names = read_class_names(archive_path)
    taken: Counter[str] = Counter()
    pictures, names = [], []
    with zipfile.ZipFile(archive_path) as archive:
        for member in sorted(archive.namelist()):
            split, _, rest = member.partition("/")
            folder, _, file = rest.partition("/")
            if split != "val" or not file or taken[folder] == per_class:
                continue
            taken[folder] += 1
            pictures.append(Image.open(io.BytesIO(archive.read(member))).convert("RGB"))
            names.append(class_names[folder])
    return pictures, names
