"""What may move: k heads in each block, and the strongest entries of each fc1 weight.

Equation 10 and lemma 3.2 of arXiv 2407.16526: under a budget for each group, the mask that keeps
most of the gradient's norm keeps the group's largest |gradient| entries. So heads compete within
their block only, and fc1 entries within their tensor only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from encoder.tower import Block, Tower


@dataclass(frozen=True)
class Selection:
    """What may move, and in which form, by weight name; each weight in one form only.

    heads   by block index, where heads were chosen; of the vision tower
    text_heads  the same of the text tower
    rows    low rank on these rows (long, ascending), None: on all of them
    masks   single entries (bool, of the weight's shape)
    dense   moved whole
    """

    heads: dict[int, tuple[int, ...]] = field(default_factory=dict)
    rows: dict[str, Tensor | None] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    dense: tuple[str, ...] = ()
    text_heads: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """JSON-able, and short whatever the tower."""
        rows = [rows.numel() for rows in self.rows.values() if rows is not None]
        text = {"text_heads": _listed(self.text_heads)} if self.text_heads else {}
        return {
            "heads": _listed(self.heads),
            **text,
            "attention_rows": sum(rows),
            "fc1_entries": sum(int(mask.sum()) for mask in self.masks.values()),
            "dense_weights": len(self.dense),
            "low_rank_weights": len(self.rows) - len(rows),
        }

    def with_text(self, text: Selection) -> Selection:
        """This one of the vision tower and one of the text tower together."""
        return Selection(
            self.heads,
            {**self.rows, **text.rows},
            {**self.masks, **text.masks},
            (*self.dense, *text.dense),
            text_heads=text.heads,
        )


def _listed(heads: Mapping[int, Sequence[int]]) -> dict[str, list[int]]:
    return {str(block): list(chosen) for block, chosen in heads.items()}


def select(
    tower: Tower,
    gradients: Mapping[str, Tensor],
    *,
    heads: int,
    fc1_fraction: float,
    code_parity: bool = False,
) -> Selection:
    """What LoRSU lets move for one update, from mean gradients by weight name.

    Blocks without any are left alone: the task does not depend on them.
    """
    chosen: dict[int, tuple[int, ...]] = {}
    rows: dict[str, Tensor | None] = {}
    dense: list[str] = []
    for block in tower.blocks:
        if block.attention[0] not in gradients:
            continue
        chosen[block.index] = top_heads(block.head_scores(gradients), heads)
        rows.update(block.head_rows(chosen[block.index]))
        if code_parity:
            dense += [*block.attention_biases, *block.fc1_biases]
    if code_parity and tower.projection is not None:
        rows[tower.projection] = None
    return Selection(chosen, rows, fc1_masks(tower.blocks, gradients, fc1_fraction), tuple(dense))


def fc1_masks(
    blocks: Sequence[Block], gradients: Mapping[str, Tensor], fraction: float
) -> dict[str, Tensor]:
    """The strongest entries of every fc1 weight that has a gradient, by its name."""
    names = [name for block in blocks for name in block.fc1 if name in gradients]
    return {name: top_entries(gradients[name], fraction) for name in names}


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
