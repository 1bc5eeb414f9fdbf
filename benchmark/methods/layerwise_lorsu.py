"""LoRSU with smaller steps for blocks nearer to the pixels.

Layer-wise decay is ELECTRA's and BEiT's (arXiv 2003.10555, 2106.08254): early blocks hold what all
images share, late ones what tells them apart.
"""

from __future__ import annotations

from pydantic import Field

from editing.methods import LorsuConfig
from editing.methods.fitting import Start
from editing.parametrize import Parametrisation
from editing.selection import Selection
from encoder.tower import Tower


class LayerwiseLorsuConfig(LorsuConfig):
    """LoRSU's numbers and one more."""

    layer_decay: float = Field(
        0.75,
        gt=0,
        le=1,
        description="step sizes of a block over those of the block after it; 1 is plain LoRSU "
        "(BEiT: 0.65 to 0.9)",
    )

    def prepare(self, selection: Selection, start: Start) -> Parametrisation:
        parts = super().prepare(selection, start).parts
        factors = {
            name: factor
            for tower in start.subject.towers
            for name, factor in self.factors(tower).items()
        }
        return Parametrisation(
            {name: (part, rate * factors.get(name, 1.0)) for name, (part, rate) in parts.items()}
        )

    def factors(self, tower: Tower) -> dict[str, float]:
        """By weight name; the last block's are 1, as is whatever stands behind it."""
        last = tower.blocks[-1].index
        return {
            name: self.layer_decay ** (last - block.index)
            for block in tower.blocks
            for names in (block.attention, block.attention_biases, block.fc1, block.fc1_biases)
            for name in names
        }
