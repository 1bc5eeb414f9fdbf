"""Crops against torch's own sampler."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.bundled_encoder.views import cut, random_boxes

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
MIRRORED = torch.tensor([[0.0, 0.0, -1.0, 1.0]])


@pytest.fixture
def grids() -> Tensor:
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_whole_box_changes_nothing(grids: Tensor) -> None:
    assert torch.equal(cut(grids, WHOLE.expand(5, 4), 16), grids)


def test_a_negative_half_width_mirrors(grids: Tensor) -> None:
    assert torch.equal(cut(grids, MIRRORED.expand(5, 4), 16), grids.flip(3))


def test_enlarging_agrees_with_grid_sample(grids: Tensor) -> None:
    boxes = random_boxes(5, (0.3, 0.9), torch.Generator().manual_seed(1), mirror=True)
    theta = torch.zeros(5, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = boxes[:, 2], boxes[:, 0]
    theta[:, 1, 1], theta[:, 1, 2] = boxes[:, 3], boxes[:, 1]
    places = F.affine_grid(theta, [5, 3, 16, 16], align_corners=False)
    expected = F.grid_sample(grids, places, padding_mode="border", align_corners=False)
    torch.testing.assert_close(cut(grids, boxes, 16), expected, atol=1e-5, rtol=0)


def test_reducing_averages_all_pixels(grids: Tensor) -> None:
    reduced = cut(grids, WHOLE.expand(5, 4), 4)
    torch.testing.assert_close(reduced.mean(), grids.mean(), atol=0.02, rtol=0)


def test_boxes_stay_inside_and_keep_their_area() -> None:
    boxes = random_boxes(500, (0.4, 0.6), torch.Generator().manual_seed(0), mirror=True)
    centres, halves = boxes[:, :2], boxes[:, 2:].abs()
    assert (centres.abs() + halves).max() <= 1 + 1e-6
    area = halves.prod(dim=1)
    assert 0.39 < float(area.min()) < float(area.max()) < 0.61
    assert 0.4 < float((boxes[:, 2] < 0).float().mean()) < 0.6
