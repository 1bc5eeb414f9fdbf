"""Crops of photos, and the same crops of token maps.

A box is (centre x, centre y, half width, half height) in coordinates that run from -1 to 1 over the
photo; a negative half width mirrors. One box therefore cuts the pixels and any grid of tokens over
them alike.

Legend: N photos, S pixels a side, G tokens a side, C channels.
"""

import torch
from torch import Tensor


def random_boxes(
    count: int, area: tuple[float, float], generator: torch.Generator, *, mirror: bool
) -> Tensor:
    """Boxes [N, 4] inside the photo, covering a uniform share of its area, aspect 3:4 to 4:3."""
    share = torch.empty(count).uniform_(*area, generator=generator)
    aspect = torch.empty(count).uniform_(-0.2877, 0.2877, generator=generator).exp()  # ln(4/3)
    half_width = (share * aspect).sqrt().clamp(max=1.0)
    half_height = (share / aspect).sqrt().clamp(max=1.0)
    place = torch.empty(2, count).uniform_(-1.0, 1.0, generator=generator)
    centre_x, centre_y = place[0] * (1 - half_width), place[1] * (1 - half_height)
    if mirror:
        half_width = half_width * (torch.randint(0, 2, (count,), generator=generator) * 2 - 1)
    return torch.stack([centre_x, centre_y, half_width, half_height], dim=1)


def cut(grids: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut boxes [N, 4] out of float grids [N, C, S, S] -> [N, C, size, size].

    Bilinear, widened where the cut is coarser than the grid. Boxes are upright, so two small matrix
    products do it, several times faster than `grid_sample`.
    """
    count, channels, source, _ = grids.shape
    across = _weights(boxes[:, 0], boxes[:, 2], (size, source)).to(grids.dtype)
    down = _weights(boxes[:, 1], boxes[:, 3], (size, source)).to(grids.dtype)
    rows = torch.bmm(grids.reshape(count, channels * source, source), across.transpose(1, 2))
    columns = rows.view(count, channels, source, size).transpose(1, 2)
    placed = torch.bmm(down, columns.reshape(count, source, channels * size))
    return placed.view(count, size, channels, size).transpose(1, 2)


def _weights(centre: Tensor, half: Tensor, sizes: tuple[int, int]) -> Tensor:
    """How much each source position counts for each new position, [N, size, S], rows sum to 1."""
    size, source = sizes
    steps = (torch.arange(size) * 2 + 1) / size - 1
    places = (centre[:, None] + half[:, None] * steps + 1) * source / 2 - 0.5  # [N, size]
    places = places.clamp(0, source - 1)
    reach = (half.abs() * source / size).clamp(min=1.0)[:, None, None]
    weights = (1 - (places[:, :, None] - torch.arange(source)).abs() / reach).clamp(min=0)
    return weights / weights.sum(dim=-1, keepdim=True)
