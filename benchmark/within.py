"""An edit at no more strength than control sets bear: the sweep within a forgetting budget.

The search is the gate's own; it asks in fp32, as the service does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field

from benchmark.bed import Bed, Sheet
from editing.control import ControlSet
from editing.examiner import Examiner
from editing.gate import GateConfig
from editing.methods import Fit
from editing.progress import silent
from editing.strength import strongest
from encoder.clip import Encoder


class Limits(BaseModel):
    """What a control set bears."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lost: float = Field(100, ge=0, le=100, description="points of accuracy at most")
    flips: float = Field(100, ge=0, le=100, description="percent of other answers at most")

    def on(self, sheet: Sheet) -> Iterator[ControlSet]:
        """Its photos with their labels, and without: then any other answer counts."""
        for targets, budget in ((sheet.targets, self.lost), (None, self.flips)):
            yield ControlSet(
                sheet.name, sheet.pixels, targets, sheet.texts, budget, prompts=sheet.prompts
            )


def largest_kept(bed: Bed, start: Encoder, fitted: Fit, within: Mapping[str, Limits]) -> float:
    """The largest strength of the edit on top of `start`, in the gate's steps, at which every
    control set named keeps its limits against the base; 0 where none does."""
    gate = GateConfig()
    controls = [each for name, limits in within.items() for each in limits.on(bed.controls[name])]
    examiner = Examiner(
        bed.base, start, controls, (), significance=gate.significance, progress=silent
    )
    best = strongest(
        lambda strength: start.merged_deltas(fitted.at(strength), label=f"strength {strength:g}"),
        examiner,
        gate.strength_steps,
        gate.strength_steps,
    )
    return best.strength if best.within else 0.0
