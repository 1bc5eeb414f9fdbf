"""An edit at no more strength than control sets bear: the sweep within a forgetting budget."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from benchmark.bed import Bed
from benchmark.metrics import flips, percent
from editing.methods import Fit
from encoder.clip import Encoder

TWENTIETHS = tuple(step / 20 for step in range(20, 0, -1))


class Limits(BaseModel):
    """What a control set bears."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lost: float = Field(100, ge=0, le=100, description="points of accuracy at most")
    flips: float = Field(100, ge=0, le=100, description="percent of other answers at most")

    def kept(self, before: Tensor, after: Tensor, targets: Tensor) -> bool:
        """Of answers and what is right, long [N] each."""
        lost = percent(before == targets) - percent(after == targets)
        return lost <= self.lost + 1e-6 and flips(before, after) <= self.flips + 1e-6


def largest_kept(bed: Bed, start: Encoder, fitted: Fit, within: Mapping[str, Limits]) -> float:
    """The largest twentieth of the edit on top of `start` at which every control set named keeps
    its limits, against the base; 0 where none does."""
    sheets = [bed.controls[name] for name in within]
    for strength in TWENTIETHS:
        weaker = start.merged_deltas(fitted.at(strength), label=f"strength {strength:g}")
        answers = bed.ask(weaker, sheets)
        if all(
            within[sheet.name].kept(bed.before[sheet.name], answers[sheet.name], sheet.targets)
            for sheet in sheets
        ):
            return strength
    return 0.0
