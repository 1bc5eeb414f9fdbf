"""How many numbers a selection trains by the count of LoRSU's authors.

They count a low-rank pair over *all* rows of the packed q, k and v weight, though only the rows of
the selected heads ever change, and neither biases nor a projection that moves whole. On
the giant tower, whose projection is a linear of timm's, their LoRA leaves it out, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from editing.selection import Selection
from encoder.tower import Tower

_OWN_PROJECTION = "visual.proj"


def paper_numbers(
    selection: Selection, tower: Tower, shapes: Mapping[str, tuple[int, ...]], *, rank: int
) -> int:
    """Of methods that move some weights whole and nothing else, the sizes of these."""
    pairs = [
        rank * sum(shapes[name])
        for name in selection.rows
        if name != tower.projection or name == _OWN_PROJECTION
    ]
    entries = [int(mask.sum()) for mask in selection.masks.values()]
    if pairs or entries:
        return sum(pairs) + sum(entries)
    return sum(math.prod(shapes[name]) for name in selection.dense)
