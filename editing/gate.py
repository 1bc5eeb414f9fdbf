"""The gate: a candidate goes live only if it fixes what it should and breaks nothing else.

Three questions: are the new corrections right, are the earlier ones still right, does every
control set stay within its budget? Where the full edit breaks a budget, the largest strength a in
W0 + a · Δ that keeps all of them is searched (WiSE-FT, arXiv 2109.01903; PAINT, arXiv 2208.05592),
and the corrections must be right at that strength.

Legend: N corrections, V labels of the vocabulary, M images of a control set, E embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from editing.control import ControlChange, ControlSet, compare
from editing.control_images import ControlImages
from editing.fewshot import EditTask
from editing.progress import Progress, silent
from encoder.clip import Encoder

__all__ = ["ControlSet", "GateConfig", "GateReport", "judge"]

CHUNK = 64
"""Images embedded between two calls of the progress callback."""


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

    answers_before, answers_after: long [N], the vocabulary row that the parent and the candidate
    give each correction. `earlier` is None when the task has no earlier corrections.
    """

    verdict: Literal["promoted", "refused"]
    reason: str
    strength: float
    corrections: Tally
    earlier: Tally | None
    controls: tuple[ControlChange, ...]
    answers_before: Tensor
    answers_after: Tensor

    def to_json(self) -> dict[str, Any]:
        """As in the HTTP contract: before and after are percent right (for a control set without
        labels: percent answered as the base does), flips are percent of answers changed."""
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
    progress: Progress = silent,
) -> tuple[GateReport, float]:
    """Judge an edit and find the strength to serve it at.

    `make_candidate(strength)` builds `start`, the encoder that was edited (the base, or the parent
    of a stacked edit), with the edit at that strength. `task` may hold more earlier corrections
    than were fitted: all of them are asked. Raises what progress raises.
    """
    examiner = _Examiner(base, controls, config, progress)
    before = examiner.answers(parent, task)
    strength, candidate, changes = _strongest(
        start, make_candidate, examiner, config.strength_steps
    )
    after = examiner.answers(candidate, task)
    new = _tally(task, before, after, task.new)
    earlier = _tally(task, before, after, ~task.new)
    complaints = [change.complaint for change in changes if not change.within]
    complaints += _unfixed(new, earlier, config)
    praise = f"{new.after} of {new.n} corrections are right and every control keeps its budget"
    report = GateReport(
        verdict="refused" if complaints else "promoted",
        reason=("; ".join(complaints) or praise) + _at(strength),
        strength=strength,
        corrections=new,
        earlier=earlier if earlier.n else None,
        controls=changes,
        answers_before=before,
        answers_after=after,
    )
    return report, strength


def _strongest(
    start: Encoder, make_candidate: Callable[[float], Encoder], examiner: _Examiner, steps: int
) -> tuple[float, Encoder, tuple[ControlChange, ...]]:
    """The largest strength that keeps every budget, of the multiples of 1 / steps; 1 if none does.

    Tried first is 1. Then come strengths at which features blended between the two ends keep every
    budget, which costs one forward pass at most for all of them; then the interval is halved.
    More change is taken to break more, so a strength counts only once it has been measured.
    """
    full = make_candidate(1.0)
    features = examiner.features(full)
    changes = examiner.changes(features)
    best = (1.0, full, changes)
    if _all_within(changes):
        return best
    likely = _likely(examiner, examiner.features_before(start), features, steps)
    kept, broken = 0, steps
    while broken - kept > 1:
        probe = _probe(kept, broken, likely)
        candidate = make_candidate(probe / steps)
        changes = examiner.changes(examiner.features(candidate))
        if _all_within(changes):
            kept, best = probe, (probe / steps, candidate, changes)
        else:
            broken = probe
    return best


def _likely(
    examiner: _Examiner, start: Sequence[Tensor], full: Sequence[Tensor], steps: int
) -> list[int]:
    """The strengths, in steps and ascending, at which blended features keep every budget."""
    blended = (
        (step, [a.lerp(b, step / steps) for a, b in zip(start, full, strict=True)])
        for step in range(1, steps)
    )
    return [step for step, features in blended if _all_within(examiner.changes(features))]


def _probe(kept: int, broken: int, likely: Sequence[int]) -> int:
    """The next strength to measure, strictly between one that kept and one that broke."""
    inside = [step for step in likely if kept < step < broken]
    if inside:
        return inside[len(inside) // 2] if broken in likely else inside[-1]
    if likely and kept == likely[-1]:
        return kept + 1  # it most often breaks, and then the search is over
    return (kept + broken) // 2


def _all_within(changes: Sequence[ControlChange]) -> bool:
    return all(change.within for change in changes)


def _at(strength: float) -> str:
    if strength == 1:
        return ""
    return f", at strength {strength:g}, the largest at which every control keeps its budget"


def _tally(task: EditTask, before: Tensor, after: Tensor, part: Tensor) -> Tally:
    right_before, right_after = (answers == task.targets for answers in (before, after))
    return Tally(int(part.sum()), int(right_before[part].sum()), int(right_after[part].sum()))


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


class _Examiner:
    """Asks several encoders the same questions; images that control sets share, only once."""

    def __init__(
        self, base: Encoder, controls: Sequence[ControlSet], config: GateConfig, progress: Progress
    ) -> None:
        self._images = ControlImages(controls)
        self._significance = config.significance
        self._progress = progress
        self._step = 0
        self._steps = 0
        self._base_encoder = base
        self._base = self._base_features(base)
        rows = zip(self._images.sets, self._base, strict=True)
        self._before = [control.answers(features) for control, features in rows]

    def answers(self, encoder: Encoder, task: EditTask) -> Tensor:
        """long [N]: the allowed label that each correction is given."""
        features = self._embed(encoder, torch.split(task.pixels, CHUNK), len(task))
        scores = features @ task.text_features.T
        return scores.masked_fill(~task.allowed, -torch.inf).argmax(dim=1)

    def changes(self, features: Sequence[Tensor]) -> tuple[ControlChange, ...]:
        """What a candidate with these features (fp32 [M, E] a set) does to each control set."""
        rows = zip(self._images.sets, self._before, features, strict=True)
        return tuple(
            compare(control, before, control.answers(features), significance=self._significance)
            for control, before, features in rows
        )

    def features_before(self, start: Encoder) -> list[Tensor]:
        """fp32 [M, E] for every control set, of the encoder that was edited."""
        return self._base if start is self._base_encoder else self.features(start)

    def _base_features(self, base: Encoder) -> list[Tensor]:
        """fp32 [M, E] for every control set, from the caller where it has them."""
        cached = [control.base_features for control in self._images.sets]
        known = [features for features in cached if features is not None]
        return known if len(known) == len(cached) else self.features(base)

    def features(self, encoder: Encoder) -> list[Tensor]:
        """fp32 [M, E] for every control set."""
        if not self._images.sets:
            return []
        chunks = self._images.chunks(CHUNK)
        return self._images.of_each_set(self._embed(encoder, chunks, len(self._images)))

    def _embed(self, encoder: Encoder, chunks: Iterable[Tensor], images: int) -> Tensor:
        """fp32 [images, E] on the CPU, for uint8 [images, 3, S, S] in chunks."""
        self._steps += math.ceil(images / CHUNK)
        features = []
        for chunk in chunks:
            self._progress("gating", self._step, self._steps, None)
            self._step += 1
            features.append(encoder.embed_images(chunk).cpu())
        return torch.cat(features)
