"""LoRSU with all heads of every block, at a rank so low that no more numbers are trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from benchmark.head_selection import choosing
from editing.methods import LorsuConfig
from editing.methods.fitting import Start, Subject
from editing.parametrize import Parametrisation, parametrise
from editing.selection import Selection
from encoder.tower import Block


class AllHeadsConfig(LorsuConfig):
    """LoRSU's numbers; `rank` and `heads` are those of the LoRSU that it is compared with."""

    towers: Literal["vision"] = Field("vision", description="each would need a rank of its own")

    def select(self, subject: Subject) -> Selection:
        return choosing(super().select, subject, lambda scores: range(scores.numel()))

    def prepare(self, selection: Selection, start: Start) -> Parametrisation:
        block = start.subject.encoder.tower.blocks[0]
        inputs = start.frozen(block.attention[0]).shape[1]
        forms = replace(self.forms.at_pace(start.pace), rank=self.equal_rank(block, inputs))
        return parametrise(start.frozen, selection, forms, generator=start.generator)

    def equal_rank(self, block: Block, inputs: int) -> int:
        """The rank that trains as many numbers over all heads, or just fewer."""
        some, every = (
            next(iter(block.head_rows(range(count)).values())).numel()
            for count in (min(self.heads, block.heads), block.heads)
        )
        return max(1, self.rank * (inputs + some) // (inputs + every))
