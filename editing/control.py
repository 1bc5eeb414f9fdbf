"""Control sets: what an edit must leave alone, and how much of it a candidate changed.

Changes are always against the *base* encoder (version 0), so that small losses cannot pile up over
many edits, each of them within its budget.

Legend: M images, C labels, S image side, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editing.errors import InvalidTask
from editing.paired_test import flip_p_value, loss_p_value


@dataclass(frozen=True)
class ControlSet:
    """Images with the labels they could be given.

    pixels         uint8 [M, 3, S, S]
    targets        long [M], the right label's row or -1 where it is unknown; None: all unknown
    text_features  fp32 [C, E], unit rows
    budget         points of accuracy that may be lost, 0 to 100; for a set without any label,
                   percent of answers that may differ from the base encoder's own
    seen           bool [M], True for images that this edit's guard term trained on; None: none
    base_features  fp32 [M, E], the base encoder's unit features, where the caller keeps them;
                   None: the gate computes them
    """

    name: str
    pixels: Tensor
    targets: Tensor | None
    text_features: Tensor
    budget: float
    seen: Tensor | None = None
    base_features: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises InvalidTask."""
        count = self.pixels.shape[0]
        if count == 0:
            raise InvalidTask(f"control set {self.name!r} has no images")
        for each in (self.targets, self.seen, self.base_features):
            if each is not None and each.shape[0] != count:
                reason = f"control set {self.name!r} has {count} images, not {each.shape[0]}"
                raise InvalidTask(reason)

    @property
    def labelled(self) -> Tensor:
        """bool [M]."""
        if self.targets is None:
            return torch.zeros(self.pixels.shape[0], dtype=torch.bool)
        return self.targets >= 0

    def answers(self, features: Tensor) -> Tensor:
        """long [M]: the label each image is given, from unit features [M, E]."""
        return (features @ self.text_features.T).argmax(dim=1)


@dataclass(frozen=True)
class Share:
    """Some images of a control set: percentages before and after, and percent of answers changed.

    Right answers where there are labels; else answers as the base encoder gives them.
    """

    n: int
    before: float
    after: float
    flips: float

    def to_json(self) -> dict[str, Any]:
        return {"n": self.n, "before": self.before, "after": self.after, "flips": self.flips}


@dataclass(frozen=True)
class ControlChange:
    """What a candidate does to one control set; `unseen` is the part no training saw."""

    name: str
    budget: float
    labelled: bool
    whole: Share
    unseen: Share
    p_value: float
    within: bool

    @property
    def complaint(self) -> str:
        what = "points of accuracy" if self.labelled else "percent of its answers"
        lost = self.whole.before - self.whole.after
        unseen = self.unseen.before - self.unseen.after
        return (
            f"control set {self.name!r} loses {lost:.2f} {what} "
            f"({unseen:.2f} on its {self.unseen.n} unseen images), the budget is {self.budget:g}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.whole.to_json(),
            "budget": self.budget,
            "labelled": self.labelled,
            "unseen": {**self.unseen.to_json(), "p_value": self.p_value},
        }


def compare(
    control: ControlSet, before: Tensor, after: Tensor, *, significance: float
) -> ControlChange:
    """Judge a candidate's answers (long [M]) against the base encoder's.

    Within budget means: no more lost than the budget on all images, and on the unseen ones no loss
    that is significantly above it.
    """
    unseen = torch.ones_like(control.labelled) if control.seen is None else ~control.seen
    labelled = bool(control.labelled.any())
    whole = _share(control, before, after, torch.ones_like(unseen))
    p_value = _p_value(control, before, after, unseen)
    within = whole.before - whole.after <= control.budget + 1e-6 and p_value >= significance
    rest = _share(control, before, after, unseen)
    return ControlChange(control.name, control.budget, labelled, whole, rest, p_value, within)


def _share(control: ControlSet, before: Tensor, after: Tensor, part: Tensor) -> Share:
    labelled, targets = control.labelled, control.targets
    flips = _percent(before != after, part)
    if targets is None or not bool(labelled.any()):
        whole = 100.0 if bool(part.any()) else 0.0
        return Share(int(part.sum()), whole, whole - flips, flips)
    judged = part & labelled
    return Share(
        int(part.sum()),
        _percent(before == targets, judged),
        _percent(after == targets, judged),
        flips,
    )


def _p_value(control: ControlSet, before: Tensor, after: Tensor, part: Tensor) -> float:
    labelled, targets = control.labelled, control.targets
    if targets is None or not bool(labelled.any()):
        flips = int((before != after)[part].sum())
        return flip_p_value(flips=flips, images=int(part.sum()), allowed=control.budget / 100)
    judged = part & labelled
    right, still = (before == targets)[judged], (after == targets)[judged]
    return loss_p_value(
        broken=int((right & ~still).sum()),
        fixed=int((~right & still).sum()),
        allowed=control.budget / 100 * judged.sum().item(),
    )


def _percent(hits: Tensor, part: Tensor) -> float:
    count = int(part.sum())
    return 100 * int((hits & part).sum()) / count if count else 0.0
