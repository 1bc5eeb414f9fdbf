"""LoRSU in the residual subspace: what is kept may not be met otherwise.

After KeepLoRA (arXiv 2601.19659). Kept are the principal input directions of each frozen weight and
then, GPM's way, of what the guard images send into it. Ours: LoRSU chooses heads and rows, and both
factors train from LoRA's random start (the paper trains one, beside a frozen projected gradient).

What is projected: rows of q, k and v and, with `fc1="residual"`, fc1, which then moves by low rank.
An input inside the kept subspace gives the output that it gave; guard images move by the energy
that they hold outside of it. With `fc1="masked"` fc1 moves as in LoRSU and unprojected: a twentieth
of a row's entries are fewer than the directions that they would have to be orthogonal to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor

from benchmark.residual import ResidualPart, input_moments, principal
from editing.methods import LorsuConfig
from editing.methods.fitting import Start, Subject
from editing.parametrize import Parametrisation, Part, parametrise
from editing.selection import Selection


class ProjectedLorsuConfig(LorsuConfig):
    """LoRSU's numbers, and how much is kept."""

    towers: Literal["vision"] = Field("vision", description="only its inputs are known")
    mode: Literal["strict"] = Field("strict", description="the projection needs input directions")
    kept_energy: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="of each frozen weight, in squared singular values; 0: nothing for its sake",
    )
    guard_energy: float = Field(
        0.95, ge=0, lt=1, description="of the guard images' inputs; 0: nothing for their sake"
    )
    fc1: Literal["residual", "masked"] = Field(
        "residual", description="low rank in the residual subspace, or LoRSU's unprojected entries"
    )
    fc1_rank: int = Field(
        8,
        ge=1,
        le=4096,
        description="of fc1's low-rank pair (8: as many numbers as 5 % of DeiT-Ti)",
    )

    def select(self, subject: Subject) -> Selection:
        selection = super().select(subject)
        if self.fc1 == "masked":
            return selection
        return replace(
            selection, rows={**selection.rows, **dict.fromkeys(selection.masks)}, masks={}
        )

    def prepare(self, selection: Selection, start: Start) -> Parametrisation:
        forms = self.forms.at_pace(start.pace)
        masked = replace(selection, rows={})
        others = parametrise(start.frozen, masked, forms, generator=start.generator)
        kept = self.kept(selection, start)
        whole = {name for block in start.subject.encoder.tower.blocks for name in block.fc1}
        parts: dict[str, tuple[Part, float]] = {}
        for name, rows in selection.rows.items():
            part = ResidualPart(
                start.frozen(name),
                rows,
                kept[name],
                rank=self.fc1_rank if name in whole else forms.rank,
                scale=forms.scale,
                generator=start.generator,
            )
            rate = self.fc1_learning_rate * start.pace if name in whole else forms.rate
            parts[name] = (part, rate)
        return Parametrisation({**parts, **others.parts})

    def kept(self, selection: Selection, start: Start) -> Mapping[str, Tensor]:
        """fp32 [I, K] for each weight of low rank, orthonormal; K is I - rank at most."""
        moments: Mapping[str, Tensor] = {}
        subject = start.subject
        if self.guard_energy and subject.guard is not None and len(subject.guard):
            moments = input_moments(subject.encoder, subject.guard)
        kept = {}
        for name in selection.rows:
            weight = start.frozen(name)
            most = max(0, weight.shape[1] - self.rank)
            kept[name] = principal(weight.T @ weight, self.kept_energy, most=most)
            if name in moments:
                kept[name] = principal(
                    moments[name], self.guard_energy, beside=kept[name], most=most
                )
        return kept
