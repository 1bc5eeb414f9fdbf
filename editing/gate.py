"""The gate: a candidate goes live only if it fixes what it should and breaks nothing else.

Three questions: are the new corrections right, are the earlier ones still right, does every
control set stay within its budget? Where the full edit breaks a budget, the largest strength that
keeps all of them is searched (`editing.strength`), and the corrections must be right at that one.
Where the corrections lead by more than they need to, the smallest strength that is enough is.

Legend: N corrections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from editing.control import ControlChange, ControlSet
from editing.examiner import CHUNK, Answers, Examiner
from editing.fewshot import EditTask
from editing.progress import Progress, silent
from editing.question_control import QuestionControl
from editing.questions import AskedCorrections
from editing.strength import Enough, at_strength, gentlest, strongest
from encoder.clip import Encoder

__all__ = ["CHUNK", "ControlSet", "GateConfig", "GateReport", "judge"]


class GateConfig(BaseModel):
    """What a candidate must achieve."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_fixed: float = Field(
        0.98, ge=0, le=1, description="share of the job's corrections that must be right"
    )
    min_earlier: float = Field(
        0.95,
        ge=0,
        le=1,
        description="share of the earlier corrections that must be right, or as many as were "
        "right before the edit where those were fewer",
    )
    significance: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="p-value under which a loss on unseen control images counts as above budget",
    )
    enough_lead: float = Field(
        3.0,
        ge=0,
        le=100,
        description="log-odds, nats, by which a right label need not lead any further: an edit is "
        "served no stronger than that takes",
    )
    strength_steps: int = Field(
        20, ge=1, le=1000, description="strengths searched are multiples of 1 / this"
    )


@dataclass(frozen=True)
class Tally:
    """Corrections right before (by the parent) and after, out of n."""

    n: int
    before: int
    after: int

    def to_json(self) -> dict[str, Any]:
        """Percentages."""
        whole = max(1, self.n)
        return {"n": self.n, "before": 100 * self.before / whole, "after": 100 * self.after / whole}


@dataclass(frozen=True)
class GateReport:
    """The verdict and what it rests on.

    `held_back`: control budgets allow no more strength than this, or none of it.
    `before` and `after` are the answers of the parent and the candidate. `earlier` is None when the
    task has no earlier corrections.
    """

    verdict: Literal["promoted", "refused"]
    reason: str
    strength: float
    held_back: bool
    corrections: Tally
    earlier: Tally | None
    controls: tuple[ControlChange, ...]
    before: Answers
    after: Answers

    def to_json(self) -> dict[str, Any]:
        """As in the HTTP contract: before and after are percent right (for a control set without
        labels: percent answered as the base does), flips are percent of answers changed. A set
        that also asks questions has a second entry, of the kind "vqa"."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "strength": self.strength,
            "corrections": self.corrections.to_json(),
            "held_out": None,
            "earlier": None if self.earlier is None else self.earlier.to_json(),
            "controls": [change.to_json() for change in self.controls],
        }


def judge(
    *,
    base: Encoder,
    parent: Encoder,
    start: Encoder,
    make_candidate: Callable[[float], Encoder],
    task: EditTask,
    controls: Sequence[ControlSet],
    config: GateConfig,
    questions: Sequence[QuestionControl] = (),
    asked: AskedCorrections | None = None,
    progress: Progress = silent,
) -> tuple[GateReport, float]:
    """Judge an edit and find the strength to serve it at.

    `make_candidate(strength)` builds `start`, the encoder that was edited (the base, or the parent
    of a stacked edit), with the edit at that strength. `task` may hold more earlier corrections
    than were fitted: all of them are asked; `asked` are those of which the model's own answers
    count. An encoder whose text tower moved is asked with its own text features; `task` and
    `controls` then need their prompts.

    Raises what progress and `Questions.answers` raise; InvalidTask without those prompts.
    """
    examiner = Examiner(
        base, start, controls, questions, significance=config.significance, progress=progress
    )
    before = examiner.answers(parent, task, asked)
    whole, after = make_candidate(1.0), None

    def at(strength: float) -> Encoder:
        return whole if strength == 1 else make_candidate(strength)

    steps = needed = config.strength_steps
    if asked is None:  # by how much a model's own answer leads is not known
        after = examiner.answers(whole, task, None)
        fitted = torch.ones_like(task.new) if start is base else task.new
        enough = Enough(examiner, task, after, fitted=fitted, lead=config.enough_lead)
        needed = gentlest(at, enough, steps) if enough.has_room else steps
    best = strongest(at, examiner, needed, steps)
    if after is None or best.strength < 1:
        after = examiner.answers(best.encoder, task, asked)
    new = _tally(before, after, task.new)
    earlier = _tally(before, after, ~task.new)
    complaints = [change.complaint for change in best.changes if not change.within]
    complaints += _unfixed(new, earlier, config)
    praise = f"{new.after} of {new.n} corrections are right and every control keeps its budget"
    report = GateReport(
        verdict="refused" if complaints else "promoted",
        reason=("; ".join(complaints) or praise)
        + at_strength(best.strength, enough=best.strength == needed / steps),
        strength=best.strength,
        held_back=best.strength < needed / steps or not best.within,
        corrections=new,
        earlier=earlier if earlier.n else None,
        controls=best.changes,
        before=before,
        after=after,
    )
    return report, best.strength


def _tally(before: Answers, after: Answers, part: Tensor) -> Tally:
    return Tally(int(part.sum()), int(before.right[part].sum()), int(after.right[part].sum()))


def _unfixed(new: Tally, earlier: Tally, config: GateConfig) -> list[str]:
    """Complaints about corrections that are not right."""
    complaints = []
    if new.after < config.min_fixed * new.n:
        complaints.append(
            f"only {new.after} of {new.n} corrections are right, {config.min_fixed:.0%} are wanted"
        )
    if earlier.after < min(config.min_earlier * earlier.n, earlier.before):
        complaints.append(
            f"only {earlier.after} of {earlier.n} earlier corrections are right "
            f"({earlier.before} were), {config.min_earlier:.0%} are wanted"
        )
    return complaints
