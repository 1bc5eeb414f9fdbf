"""Targets stay under the pixels they speak of."""

import torch
import torch.nn.functional as F

from recipes.bundled_encoder.batches import (
    Batch,
    crop_batch,
    cut_and_mix,
    draw_batch,
    own_cells,
    recolour,
)
from recipes.bundled_encoder.image_tower import TrainingData


def marked_batch(count: int) -> Batch:
    """Photo i is filled with the value i / count, and so is everything that belongs to it."""
    value = torch.arange(count) / count
    cells = value.view(count, 1, 1, 1).expand(count, 2, 8, 8)
    return Batch(
        photos=value.view(count, 1, 1, 1).expand(count, 3, 64, 64),
        classes=torch.eye(count),
        features=F.normalize(torch.eye(count) + 0.1, dim=-1),
        tokens=(cells, cells + 1),
    )


def test_cutmix_swaps_pixels_and_token_targets_alike() -> None:
    mixed = cut_and_mix(marked_batch(32), torch.Generator().manual_seed(0))
    cells = mixed.photos[:, 0].unfold(1, 8, 8).unfold(2, 8, 8)  # [B, 8, 8, 8, 8]
    assert torch.equal(cells.amin(dim=(3, 4)), cells.amax(dim=(3, 4))), "a cell was cut through"
    assert torch.equal(cells[..., 0, 0], mixed.tokens[0][:, 0])
    assert torch.equal(mixed.tokens[1], mixed.tokens[0] + 1)


def test_cutmix_mixes_classes_by_area() -> None:
    mixed = cut_and_mix(marked_batch(32), torch.Generator().manual_seed(0))
    own_value = (torch.arange(32) / 32).view(-1, 1, 1)
    share = (mixed.tokens[0][:, 0] == own_value).float().mean(dim=(1, 2))
    assert torch.equal(mixed.classes.diagonal(), share)
    torch.testing.assert_close(mixed.classes.sum(dim=1), torch.ones(32))
    assert 0 < int((share < 1).sum()) < 32


def test_foreign_cells_form_one_rectangle() -> None:
    foreign = ~own_cells(200, 8, torch.Generator().manual_seed(0))
    rows, columns = foreign.any(dim=2).sum(dim=1), foreign.any(dim=1).sum(dim=1)
    assert torch.equal(foreign.sum(dim=(1, 2)), rows * columns)


def test_a_crop_keeps_shapes_ranges_and_classes(data: TrainingData) -> None:
    members = torch.tensor([0, 7, 13])
    batch = draw_batch(data.photos, data.targets, members, torch.Generator().manual_seed(0))
    assert batch.photos.shape == (3, 3, 64, 64)
    assert batch.tokens[0].shape == batch.tokens[1].shape == (3, 192, 8, 8)
    assert 0 <= float(batch.photos.min()) <= float(batch.photos.max()) <= 1
    torch.testing.assert_close(batch.features.norm(dim=-1), torch.ones(3))
    cropped = crop_batch(data.photos, data.targets, members, torch.Generator().manual_seed(0))
    assert cropped.classes.argmax(dim=1).tolist() == [0, 1, 2]


def test_the_same_generator_gives_the_same_batch(data: TrainingData) -> None:
    first, second = (
        draw_batch(data.photos, data.targets, data.members, torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(first.photos, second.photos)
    assert torch.equal(first.tokens[1], second.tokens[1])


def test_recolouring_keeps_grey_photos_grey() -> None:
    grey = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(4, 3, 8, 8)
    changed = recolour(grey, torch.Generator().manual_seed(1))
    torch.testing.assert_close(changed[:, 0], changed[:, 2])
    assert not torch.equal(changed, grey)
