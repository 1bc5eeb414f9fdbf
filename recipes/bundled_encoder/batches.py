"""Training batches: crops with their teacher targets, colour changes and CutMix.

A token target always lies under the pixels it speaks of: crops cut the photo and the token map with
one box, and CutMix swaps whole 8-pixel cells in both.

Legend: B photos, S pixels a side (64), P pixels a patch (8), G cells a side (8), D features (192).
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.bundled_encoder.photos import PHOTO_PIXELS, Photos
from recipes.bundled_encoder.teacher import TeacherTargets
from recipes.bundled_encoder.views import cut, random_boxes

WHOLE_AREA, CROP_AREA = (0.45, 1.0), (0.65, 1.0)
"""share of a teacher view that a training crop shows, for the whole photo and for its crop"""
FROM_CROP = 0.4
"""share of the training crops taken from the teacher's crop, not from its whole photo"""
UNCROPPED = 0.4
"""share of the whole-photo views left uncropped, as sharp as the photos at test time"""
CUTMIX = 0.3
"""share of the photos that get a piece of another one"""


@dataclass(frozen=True)
class Batch:
    """Student inputs and everything they are compared with."""

    photos: Tensor
    """[B, 3, S, S] in 0..1"""
    classes: Tensor
    """[B, classes] true class, as probabilities"""
    features: Tensor
    """[B, D] the teacher's pooled features, of length 1"""
    tokens: tuple[Tensor, Tensor]
    """two of [B, D, G, G]: the teacher's halfway and final tokens, in steps of their int8 files"""


def draw_batch(
    photos: Photos, targets: TeacherTargets, members: Tensor, generator: torch.Generator
) -> Batch:
    """Crop, recolour and mix the photos `members` [B]."""
    batch = crop_batch(photos, targets, members, generator)
    batch = replace(batch, photos=recolour(batch.photos, generator))
    return cut_and_mix(batch, generator)


def crop_batch(
    photos: Photos, targets: TeacherTargets, members: Tensor, generator: torch.Generator
) -> Batch:
    """A random crop of a random teacher view of every photo, with its targets."""
    count = len(members)
    view = (torch.rand(count, generator=generator) < FROM_CROP).long()  # 0: whole photo, 1: crop
    inner = _inner_boxes(view, generator)
    outer = torch.from_numpy(targets.boxes[view.numpy(), members.numpy()])  # [B, 4]
    centres = outer[:, :2] + inner[:, :2] * outer[:, 2:]
    boxes = torch.cat([centres, inner[:, 2:] * outer[:, 2:]], dim=1)
    cells = PHOTO_PIXELS // 8
    tokens = [
        torch.from_numpy(maps[view.numpy(), members.numpy()]).bfloat16() for maps in targets.maps
    ]
    features = torch.from_numpy(targets.features[view.numpy(), members.numpy()]).float()
    classes = F.one_hot(photos.labels[members], int(photos.labels.max()) + 1).float()
    return Batch(
        photos=cut(photos.pixels[members].float() / 255, boxes, PHOTO_PIXELS),
        classes=classes,
        features=F.normalize(features, dim=-1),
        tokens=(cut(tokens[0], inner, cells), cut(tokens[1], inner, cells)),
    )


def recolour(photos: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of each photo [B, 3, S, S] by up to 30 %."""
    factors = torch.empty(3, len(photos), 1, 1, 1).uniform_(0.7, 1.3, generator=generator)
    brightness, contrast, saturation = factors
    middle = photos.mean(dim=(1, 2, 3), keepdim=True)
    grey = photos.mean(dim=1, keepdim=True)  # [B, 1, S, S]
    added = middle * brightness * (1 - contrast)
    added = added + grey * (brightness * contrast * (1 - saturation))
    changed: Tensor = (photos * (brightness * contrast * saturation)).add_(added).clamp_(0, 1)
    return changed


def cut_and_mix(batch: Batch, generator: torch.Generator) -> Batch:
    """Put a rectangle of whole cells from the next photo into a share of the photos (CutMix)."""
    grid = batch.tokens[0].shape[-1]
    own = own_cells(len(batch.photos), grid, generator)  # [B, G, G]
    patch = batch.photos.shape[-1] // grid
    own_pixels = own.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]
    share = own.float().mean(dim=(1, 2))[:, None]  # [B, 1]

    def blend(values: Tensor) -> Tensor:
        return share * values + (1 - share) * values.roll(1, dims=0)

    def swap(grids: Tensor, keep: Tensor) -> Tensor:
        return torch.where(keep, grids, grids.roll(1, dims=0))

    return Batch(
        photos=swap(batch.photos, own_pixels),
        classes=blend(batch.classes),
        features=F.normalize(blend(batch.features), dim=-1),
        tokens=(swap(batch.tokens[0], own[:, None]), swap(batch.tokens[1], own[:, None])),
    )


def own_cells(count: int, grid: int, generator: torch.Generator) -> Tensor:
    """Which cells [B, G, G] stay a photo's own; the others are a rectangle, or none."""
    draws = torch.rand(5, count, generator=generator)
    side = (1 - draws[0]).sqrt() * grid  # area uniform in 0..1
    top, left = (draws[1] * (grid + 1)).floor(), (draws[2] * (grid + 1)).floor()
    tall, wide = (side * (0.75 + 0.5 * draws[3])).round(), (side / (0.75 + 0.5 * draws[3])).round()
    cells = torch.arange(grid)

    def inside(centre: Tensor, length: Tensor) -> Tensor:
        first = (centre - (length / 2).floor())[:, None]
        return (cells >= first) & (cells < first + length[:, None])

    foreign = inside(top, tall)[:, :, None] & inside(left, wide)[:, None, :]
    return ~(foreign & (draws[4] < CUTMIX)[:, None, None])


def _inner_boxes(view: Tensor, generator: torch.Generator) -> Tensor:
    """Training crops [B, 4] in the coordinates of each photo's teacher view [B]."""
    count = len(view)
    of_whole = random_boxes(count, WHOLE_AREA, generator, mirror=True)
    uncropped = torch.tensor([0.0, 0.0, 1.0, 1.0]) * of_whole.sign().abs()
    uncropped[:, 2] = of_whole[:, 2].sign()
    leave = torch.rand(count, 1, generator=generator) < UNCROPPED
    of_whole = torch.where(leave, uncropped, of_whole)
    of_crop = random_boxes(count, CROP_AREA, generator, mirror=True)
    return torch.where(view[:, None] == 0, of_whole, of_crop)
