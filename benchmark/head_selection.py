"""LoRSU with heads chosen in another way, for the question whether the choice matters.

Legend: H heads of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from torch import Tensor

from editing.methods.fitting import Subject
from editing.selection import Selection

Choose: TypeAlias = Callable[[Tensor], Sequence[int]]
"""Heads of one block, from their scores fp32 [H]."""


def choosing(select: Callable[[Subject], Selection], subject: Subject, choose: Choose) -> Selection:
    """What `select` lets move, but in every block that it touches the heads that `choose` names.

    Raises VanishingGradient.
    """
    seen: dict[str, Tensor] = {}

    def gradients(names: Sequence[str]) -> Mapping[str, Tensor]:
        seen.update(subject.gradients(names))
        return seen

    selection = select(replace(subject, gradients=gradients))
    heads, text_heads = dict(selection.heads), dict(selection.text_heads)
    rows = dict(selection.rows)
    for tower, chosen in zip(subject.towers, (heads, text_heads), strict=False):
        for block in tower.blocks:
            if block.index in chosen:
                chosen[block.index] = tuple(sorted(choose(block.head_scores(seen))))
                rows.update(block.head_rows(chosen[block.index]))
    return replace(selection, heads=heads, text_heads=text_heads, rows=rows)
