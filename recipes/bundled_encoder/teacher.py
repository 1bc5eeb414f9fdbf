"""What the teacher says about every photo, computed once and kept in memory-mapped files.

Two views a photo: the whole photo, and one random crop of 30-70 % of its area, both enlarged to the
teacher's 224 px. Kept for each: the pooled feature and two token maps (after half of the blocks,
and at the end). Token maps are standardised by channel and stored as int8 in steps of 1/32 standard
deviations, clipped at +-4: 10 GB of fp16 become 5 GB.

Legend: V views (2), N photos, D teacher width (192), G teacher tokens a side (14).
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.bundled_encoder.blocks import run_image_tower
from recipes.bundled_encoder.photos import PHOTO_PIXELS
from recipes.bundled_encoder.views import cut, random_boxes

VIEWS = 2
MIDDLE_BLOCK = 6
STEPS_PER_DEVIATION = 32.0
CROP_AREA = (0.3, 0.7)
_BATCH = 50


@dataclass(frozen=True)
class TeacherTargets:
    """Memory-mapped teacher outputs for all training photos."""

    boxes: npt.NDArray[np.float32]
    """[V, N, 4] which part of the photo each view shows"""
    features: npt.NDArray[np.float16]
    """[V, N, D] pooled features, not normalised"""
    maps: tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]
    """two of [V, N, D, G, G]: halfway and final tokens, standardised, in 1/32 deviations"""


def load_teacher(base: Path) -> tuple[open_clip.CLIP, open_clip.SimpleTokenizer]:
    """Load the lab's base model, frozen, and its tokenizer."""
    location = f"local-dir:{base}"
    model, _, _ = open_clip.create_model_and_transforms(location)
    return model.eval().requires_grad_(False), open_clip.get_tokenizer(location)


def load_targets(cache: Path) -> TeacherTargets:
    """Open targets that `compute_targets` wrote into the cache."""
    return TeacherTargets(
        boxes=np.load(cache / "teacher-boxes.npy"),
        features=np.load(cache / "teacher-features.npy"),
        maps=(
            np.load(cache / "teacher-halfway.npy", mmap_mode="r"),
            np.load(cache / "teacher-final.npy", mmap_mode="r"),
        ),
    )


def compute_targets(teacher: open_clip.CLIP, pixels: Tensor, cache: Path, seed: int = 0) -> None:
    """Write the targets for photos [N, 3, S, S] uint8; does nothing when they are there."""
    if (cache / "teacher-features.npy").exists():
        return
    generator = torch.Generator().manual_seed(seed)
    count, (side, width) = len(pixels), _map_shape(teacher)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(count, 4)
    boxes = torch.stack([whole, random_boxes(count, CROP_AREA, generator, mirror=False)])
    features = np.zeros((VIEWS, count, width), dtype=np.float16)
    maps = [
        np.lib.format.open_memmap(
            cache / f"teacher-{name}.npy", "w+", np.int8, (VIEWS, count, width, side, side)
        )
        for name in ("halfway", "final")
    ]
    scaling = _channel_scaling(teacher, pixels, generator)
    started = time.monotonic()
    for part in torch.split(torch.arange(count), _BATCH):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        for view in range(VIEWS):
            images = prepare(
                teacher, cut(pixels[part].float() / 255, boxes[view, part], PHOTO_PIXELS)
            )
            pooled, tokens = _look(teacher, images)
            features[view, rows] = pooled.half().numpy()
            for number, scale in enumerate(scaling):
                maps[number][view, rows] = _standardise(tokens[number], scale, side).numpy()
        if rows.start % (40 * _BATCH) == 0:
            rate = VIEWS * rows.stop / (time.monotonic() - started)
            print(f"teacher: {rows.stop} of {count} photos, {rate:.0f} views/s", flush=True)
    np.save(cache / "teacher-boxes.npy", boxes.numpy())
    np.save(cache / "teacher-features.npy", features)


def prepare(teacher: open_clip.CLIP, photos: Tensor) -> Tensor:
    """Photos [B, 3, S, S] in 0..1 -> enlarged and normalised for the teacher [B, 3, 224, 224]."""
    mean, deviation = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (teacher.visual.image_mean, teacher.visual.image_std)
    )
    size = teacher.visual.image_size
    normalised = (photos - mean) / deviation
    return F.interpolate(normalised, size=size, mode="bicubic", align_corners=False)


@torch.inference_mode()
def _look(teacher: open_clip.CLIP, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Pooled features [B, D] and the two token lists [B, G*G, D], computed in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        halfway, final = run_image_tower(teacher.visual, images, MIDDLE_BLOCK)
        pooled = final[:, 0] @ teacher.visual.proj
    return pooled.float(), (halfway[:, 1:].float(), final[:, 1:].float())


def _standardise(tokens: Tensor, scale: tuple[Tensor, Tensor], side: int) -> Tensor:
    """Tokens [B, G*G, D] -> int8 maps [B, D, G, G], in 1/32 of each channel's deviation."""
    mean, deviation = scale
    steps = ((tokens - mean) / deviation * STEPS_PER_DEVIATION).round().clamp(-127, 127)
    return steps.to(torch.int8).transpose(1, 2).reshape(len(tokens), -1, side, side)


def _channel_scaling(
    teacher: open_clip.CLIP, pixels: Tensor, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation [D] of both token maps over a sample of photos."""
    sample = torch.randperm(len(pixels), generator=generator)[:256]
    images = prepare(teacher, pixels[sample].float() / 255)
    batches = [_look(teacher, part)[1] for part in torch.split(images, _BATCH)]
    joined = [torch.cat([batch[number] for batch in batches]).flatten(0, 1) for number in (0, 1)]
    return [(tokens.mean(dim=0), tokens.std(dim=0)) for tokens in joined]


def _map_shape(teacher: open_clip.CLIP) -> tuple[int, int]:
    return teacher.visual.grid_size[0], teacher.visual.output_dim
