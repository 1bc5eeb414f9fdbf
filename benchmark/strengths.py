"""One fitted edit at many strengths: what it fixes, and what it costs.

`start` + a · edit for a up to 1 (WiSE-FT, arXiv 2109.01903; PAINT, arXiv 2208.05592). Two strengths
matter: the smallest that fixes the corrections, and the largest that keeps every budget.

Legend: N photos, V labels, S image side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from editing.control import ControlChange, ControlSet
from editing.examiner import Examiner
from editing.fewshot import EditTask
from editing.gate import GateConfig
from editing.progress import Progress, silent
from encoder.clip import Encoder
from encoder.deltas import Delta

TENTHS = tuple(step / 10 for step in range(1, 11))


@dataclass(frozen=True)
class AtStrength:
    """Percent right of the corrections and of validation photos; what every control set lost."""

    strength: float
    corrections: float
    validation: float
    controls: tuple[ControlChange, ...]

    @property
    def within(self) -> bool:
        """Every control set keeps its budget."""
        return all(change.within for change in self.controls)

    def to_json(self) -> dict[str, Any]:
        return {
            "strength": self.strength,
            "corrections": self.corrections,
            "validation": self.validation,
            "within": self.within,
            "controls": [change.to_json() for change in self.controls],
        }


def at_strengths(
    start: Encoder,
    deltas: Mapping[str, Delta],
    *,
    task: EditTask,
    validation: EditTask,
    controls: Sequence[ControlSet],
    base: Encoder | None = None,
    strengths: Sequence[float] = TENTHS,
    progress: Progress = silent,
) -> list[AtStrength]:
    """The edit of `start` at each strength, in the order given; 0 is `start` itself.

    `task` holds the corrections and `validation` photos of the same kind that nothing was fitted
    on. Controls are compared with `base` (None: `start`). Every encoder looks once at each photo.
    Raises what `progress` raises.
    """
    examiner = Examiner(
        base or start,
        start,
        controls,
        (),
        significance=GateConfig().significance,
        progress=progress,
    )
    told = []
    for strength in strengths:
        scaled = {name: delta.scaled(strength) for name, delta in deltas.items()}
        encoder = start.merged_deltas(scaled, label=f"strength {strength}")
        rights = [examiner.answers(encoder, each, None).right for each in (task, validation)]
        corrections, unseen = (_percent(right) for right in rights)
        changes = examiner.changes(examiner.features(encoder))
        told.append(AtStrength(strength, corrections, unseen, changes))
    return told


def smallest_that_fixes(
    told: Sequence[AtStrength], share: float = GateConfig().min_fixed
) -> AtStrength | None:
    """The smallest strength at which so many corrections are right; None: at none."""
    fixed = [each for each in told if each.corrections >= 100 * share]
    return min(fixed, key=lambda each: each.strength, default=None)


def largest_within(told: Sequence[AtStrength]) -> AtStrength | None:
    """The largest strength at which every control set keeps its budget; None: at none.

    Smaller ones that break a budget are passed over: more change mostly costs more, not always.
    """
    kept = [each for each in told if each.within]
    return max(kept, key=lambda each: each.strength, default=None)


def _percent(right: Tensor) -> float:
    return 100 * right.float().mean().item()
