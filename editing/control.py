"""Control sets: what an edit must leave alone, and how much of it a candidate changed.

Changes are always against the *base* encoder (version 0), so that small losses cannot pile up over
many edits, each of them within its budget.

Legend: M images, C labels, S image side, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from editing.errors import InvalidTask
from editing.paired_test import flip_p_value, loss_p_value
from encoder.prompts import Prompt


class Judged(Protocol):
    """What `compare` must know of a control set: one number an image or question for the answer
    that is right (-1 where it is unknown), and what may be lost. As in `ControlSet`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def rows(self) -> Tensor: ...
    @property
    def labelled(self) -> Tensor: ...
    @property
    def budget(self) -> float: ...
    @property
    def flip_budget(self) -> float | None: ...
    @property
    def seen(self) -> Tensor | None: ...


@dataclass(frozen=True)
class ControlSet:
    """Images with the labels they could be given.

    pixels         uint8 [M, 3, S, S]
    targets        long [M], the right label's row or -1 where it is unknown; None: all unknown
    text_features  fp32 [C, E], unit rows, of the base encoder
    budget         points of accuracy that the labelled images may lose, 0 to 100
    seen           bool [M], True for images that this edit's guard term trained on; None: none
    base_features  fp32 [M, E], the base encoder's unit features, where the caller keeps them;
                   None: the gate computes them
    flip_budget    percent of answers to images without a label that may differ from the base
                   encoder's own; None: as many percent as `budget` has points
    prompts        C, what `text_features` are made from; needed to judge a moved text tower
    """

    name: str
    pixels: Tensor
    targets: Tensor | None
    text_features: Tensor
    budget: float
    seen: Tensor | None = None
    base_features: Tensor | None = None
    flip_budget: float | None = None
    prompts: tuple[Prompt, ...] | None = None

    kind = "classification"

    def __post_init__(self) -> None:
        """Raises InvalidTask."""
        count = self.pixels.shape[0]
        if count == 0:
            raise InvalidTask(f"control set {self.name!r} has no images")
        for each in (self.targets, self.seen, self.base_features):
            if each is not None and each.shape[0] != count:
                reason = f"control set {self.name!r} has {count} images, not {each.shape[0]}"
                raise InvalidTask(reason)
        if self.prompts is not None and len(self.prompts) != self.text_features.shape[0]:
            raise InvalidTask(f"control set {self.name!r} has {len(self.prompts)} prompts")

    @property
    def rows(self) -> Tensor:
        """long [M]: the right label's row, -1 where it is unknown."""
        if self.targets is None:
            return torch.full((self.pixels.shape[0],), -1)
        return self.targets

    @property
    def labelled(self) -> Tensor:
        """bool [M]."""
        return self.rows >= 0

    def answers(self, features: Tensor, texts: Tensor | None = None) -> Tensor:
        """long [M]: the label each image is given, from unit features [M, E] of the images and
        [C, E] of the labels; the base encoder's without any."""
        labels = self.text_features if texts is None else texts
        return (features @ labels.T).argmax(dim=1)


@dataclass(frozen=True)
class Share:
    """Some images of a control set: percentages before and after, and percent of answers changed.

    `before` and `after` are right answers to the `labelled` images; where there is none, answers
    as the base encoder gives them, to all `n`. `flips` are of all `n`.
    """

    n: int
    labelled: int
    before: float
    after: float
    flips: float

    def to_json(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "labelled_n": self.labelled,
            "before": self.before,
            "after": self.after,
            "flips": self.flips,
        }


@dataclass(frozen=True)
class Loss:
    """What one part lost: those whose label or answer is known right answers, the others answers.

    lost, unseen_lost   percent of the `n` images of this kind, of its `unseen_n` unseen ones
    p_value             of what the unseen ones lost beyond the budget
    """

    labelled: bool
    n: int
    lost: float
    unseen_n: int
    unseen_lost: float
    budget: float
    p_value: float
    kind: str = "classification"

    def within(self, significance: float) -> bool:
        """No more lost than the budget, and on the unseen ones not significantly more."""
        return self.lost <= self.budget + 1e-6 and self.p_value >= significance

    @property
    def complaint(self) -> str:
        what = "points of accuracy" if self.labelled else "percent of its answers"
        where = {
            "classification": ("unlabelled images", "labelled images"),
            "vqa": ("questions without an expected answer", "questions with an expected answer"),
        }[self.kind][self.labelled]
        return (
            f"{self.lost:.2f} {what} on its {self.n} {where} ({self.unseen_lost:.2f} on the "
            f"{self.unseen_n} unseen of them), the budget is {self.budget:g}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "labelled": self.labelled,
            "n": self.n,
            "lost": self.lost,
            "budget": self.budget,
            "unseen": {"n": self.unseen_n, "lost": self.unseen_lost, "p_value": self.p_value},
        }


@dataclass(frozen=True)
class ControlChange:
    """What a candidate does to one control set; `unseen` is the part no training saw.

    `losses` are one for the labelled images, one for the others, whichever there are; each has a
    budget of its own, and `exceeded` are those that broke it.
    """

    name: str
    kind: str  # "classification" or "vqa"
    whole: Share
    unseen: Share
    losses: tuple[Loss, ...]
    exceeded: tuple[Loss, ...]

    @property
    def within(self) -> bool:
        return not self.exceeded

    @property
    def labelled(self) -> bool:
        """Whether any image is."""
        return self.losses[0].labelled

    @property
    def p_value(self) -> float:
        """The smallest."""
        return min(loss.p_value for loss in self.losses)

    @property
    def complaint(self) -> str:
        what = "; and ".join(loss.complaint for loss in self.exceeded)
        return f"control set {self.name!r} loses {what}"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            **self.whole.to_json(),
            "budget": self.losses[0].budget,
            "labelled": self.labelled,
            "unseen": {**self.unseen.to_json(), "p_value": self.p_value},
            "losses": [loss.to_json() for loss in self.losses],
        }


def compare(
    control: Judged, before: Tensor, after: Tensor, *, significance: float
) -> ControlChange:
    """Judge a candidate's answers (long [M]) against the base encoder's.

    Within budget means, for the labelled images and for the others each: no more lost than the
    budget on all of them, and on the unseen ones no loss that is significantly above it.
    """
    labelled = control.labelled
    everything = torch.ones_like(labelled)
    unseen = everything if control.seen is None else ~control.seen
    losses = []
    if bool(labelled.any()):
        losses.append(_accuracy_loss(control, before, after, unseen))
    if not bool(labelled.all()):
        losses.append(_answers_loss(control, before != after, unseen))
    return ControlChange(
        control.name,
        control.kind,
        _share(control, before, after, everything),
        _share(control, before, after, unseen),
        tuple(losses),
        tuple(loss for loss in losses if not loss.within(significance)),
    )


def _accuracy_loss(control: Judged, before: Tensor, after: Tensor, unseen: Tensor) -> Loss:
    """Of the labelled images."""
    right, still = before == control.rows, after == control.rows
    broken, fixed = right & ~still, ~right & still
    whole, part = control.labelled, control.labelled & unseen
    return Loss(
        labelled=True,
        n=int(whole.sum()),
        lost=_percent(broken, whole) - _percent(fixed, whole),
        unseen_n=int(part.sum()),
        unseen_lost=_percent(broken, part) - _percent(fixed, part),
        budget=control.budget,
        p_value=loss_p_value(
            broken=int((broken & part).sum()),
            fixed=int((fixed & part).sum()),
            allowed=control.budget / 100 * part.sum().item(),
        ),
        kind=control.kind,
    )


def _answers_loss(control: Judged, flipped: Tensor, unseen: Tensor) -> Loss:
    """Of the images without a label."""
    budget = control.budget if control.flip_budget is None else control.flip_budget
    whole, part = ~control.labelled, ~control.labelled & unseen
    return Loss(
        labelled=False,
        n=int(whole.sum()),
        lost=_percent(flipped, whole),
        unseen_n=int(part.sum()),
        unseen_lost=_percent(flipped, part),
        budget=budget,
        p_value=flip_p_value(
            flips=int((flipped & part).sum()), images=int(part.sum()), allowed=budget / 100
        ),
        kind=control.kind,
    )


def _share(control: Judged, before: Tensor, after: Tensor, part: Tensor) -> Share:
    count, flips = int(part.sum()), _percent(before != after, part)
    judged = part & control.labelled
    if not bool(control.labelled.any()):
        whole = 100.0 if count else 0.0
        return Share(count, 0, whole, whole - flips, flips)
    return Share(
        count,
        int(judged.sum()),
        _percent(before == control.rows, judged),
        _percent(after == control.rows, judged),
        flips,
    )


def _percent(hits: Tensor, part: Tensor) -> float:
    count = int(part.sum())
    return 100 * int((hits & part).sum()) / count if count else 0.0
