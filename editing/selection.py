"""What may move: k heads in each block, and the strongest entries of each fc1 weight.

Equation 10 and lemma 3.2 of arXiv 2407.16526: under a budget for each group, the mask that keeps
most of the gradient's norm keeps the group's largest |gradient| entries. So heads compete within
their block only, and fc1 entries within their tensor only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from encoder.tower import Tower


@dataclass(frozen=True)
class Selection:
    """heads by block index; rows (long, ascending) by attention weight, masks (bool) by fc1 weight;
    `dense` weights move whole, `projection` (if any) moves by low rank over all its rows."""

    heads: dict[int, tuple[int, ...]]
    rows: dict[str, Tensor]
    masks: dict[str, Tensor]
    dense: tuple[str, ...] = ()
    projection: str | None = None

    def summary(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "heads": {str(block): list(heads) for block, heads in self.heads.items()},
            "attention_rows": sum(rows.numel() for rows in self.rows.values()),
            "fc1_entries": sum(int(mask.sum()) for mask in self.masks.values()),
            "dense": list(self.dense),
            "projection": self.projection,
        }


def select(
    tower: Tower,
    gradients: Mapping[str, Tensor],
    *,
    heads: int,
    fc1_fraction: float,
    code_parity: bool = False,
) -> Selection:
    """Fix what may move for one update, from mean gradients by weight name."""
    chosen: dict[int, tuple[int, ...]] = {}
    rows: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    dense: list[str] = []
    for block in tower.blocks:
        chosen[block.index] = top_heads(block.head_scores(gradients), heads)
        rows.update(block.head_rows(chosen[block.index]))
        for name in block.fc1:
            masks[name] = top_entries(gradients[name], fc1_fraction)
        if code_parity:
            dense += [*block.attention_biases, *block.fc1_biases]
    projection = tower.projection if code_parity else None
    return Selection(chosen, rows, masks, tuple(dense), projection)


def top_heads(scores: Tensor, count: int) -> tuple[int, ...]:
    """The `count` heads of highest score, ascending; all of them when there are fewer."""
    best = scores.topk(min(count, scores.numel())).indices
    return tuple(sorted(best.tolist()))


def top_entries(gradient: Tensor, fraction: float) -> Tensor:
    """bool mask of `entry_budget` entries, those of largest |gradient|."""
    budget = entry_budget(gradient.numel(), fraction)
    mask = torch.zeros(gradient.numel(), dtype=torch.bool, device=gradient.device)
    mask[gradient.abs().flatten().topk(budget, sorted=False).indices] = True
    return mask.view_as(gradient)


def entry_budget(entries: int, fraction: float) -> int:
    """How many of `entries` weights may move: the fraction rounded down, at least one."""
    return max(1, int(entries * fraction))
