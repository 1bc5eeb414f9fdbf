"""How strong an edit is served: as budgets allow, and no stronger than it needs to be.

`start` + a · edit for a from 0 to 1 (WiSE-FT, arXiv 2109.01903; PAINT, arXiv 2208.05592).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from editing.control import ControlChange
from editing.examiner import Answers, Examiner
from editing.fewshot import EditTask
from editing.judged_texts import Embedded
from encoder.clip import Encoder


@dataclass(frozen=True)
class Rated:
    """An edit at one strength, and what it does to every control."""

    strength: float
    encoder: Encoder
    changes: tuple[ControlChange, ...]

    @property
    def within(self) -> bool:
        """Every budget is kept."""
        return all(change.within for change in self.changes)


def strongest(
    make_candidate: Callable[[float], Encoder], examiner: Examiner, most: int, steps: int
) -> Rated:
    """The largest strength that keeps every budget, of the multiples of 1 / steps up to `most` of
    them; `most` if none does.

    Tried first is `most`. Then come strengths at which features blended between the two ends keep
    every budget, which costs one forward pass at most for all of them; then the interval is halved.
    More change is taken to break more, so a strength counts only once it has been measured.
    Questions cost most: they are asked where the images that are classified keep their budgets.
    """
    full = make_candidate(most / steps)
    features = examiner.features(full)
    changes = examiner.changes(features)
    everything = changes + examiner.asked(full)
    best = Rated(most / steps, full, everything)
    if best.within:
        return best
    likely: list[int] = []
    if not _all_within(changes):
        likely = _likely(examiner, examiner.features_before(), features, most)
    kept, broken = 0, most
    while broken - kept > 1:
        probe = _probe(kept, broken, likely)
        candidate = make_candidate(probe / steps)
        changes = examiner.changes(examiner.features(candidate))
        if _all_within(changes):
            changes += examiner.asked(candidate)
        if _all_within(changes):
            kept, best = probe, Rated(probe / steps, candidate, changes)
        else:
            broken = probe
    return best


class Enough:
    """Whether a weaker edit still does what the whole one does.

    A few corrections are learnt far beyond what they need: training lands on many more steps, and
    what leads already hardly gains from them. What is stronger then changes other answers only.
    """

    def __init__(
        self, examiner: Examiner, task: EditTask, answers: Answers, *, fitted: Tensor, lead: float
    ) -> None:
        """`answers` are the whole edit's: where `fitted`, bool [N], those that lead by `lead` nats
        must go on to; of the others as many must stay right."""
        self._examiner, self._task, self._lead = examiner, task, lead
        self._led = fitted & (answers.leads >= lead)
        self._others = ~self._led
        self._right = int(answers.right[self._others].sum())

    @property
    def has_room(self) -> bool:
        """All new corrections lead by as much as is wanted."""
        return bool(self._led[self._task.new].all())

    def __call__(self, encoder: Encoder) -> bool:
        found = self._examiner.answers(encoder, self._task, None)
        lead = bool((found.leads[self._led] >= self._lead).all())
        return lead and int(found.right[self._others].sum()) >= self._right


def gentlest(
    make_candidate: Callable[[float], Encoder], suffices: Callable[[Encoder], bool], steps: int
) -> int:
    """The smallest strength that suffices, in multiples of 1 / steps; `steps` if no other does.

    The one just below 1 comes first, as a large job hardly ever has something to spare; then the
    interval is halved. Less strength is taken to fix less, so one counts only once measured.
    """
    fails, enough, probe = 0, steps, steps - 1
    while probe > fails:
        if suffices(make_candidate(probe / steps)):
            enough = probe
        else:
            fails = probe
        probe = (fails + enough) // 2
    return enough


def _likely(
    examiner: Examiner, start: Sequence[Embedded], full: Sequence[Embedded], most: int
) -> list[int]:
    """The strengths, in steps and ascending, at which blended features keep every budget; `full`
    are those at `most`."""
    blended = (
        (step, [a.towards(b, step / most) for a, b in zip(start, full, strict=True)])
        for step in range(1, most)
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


def at_strength(strength: float, *, enough: bool) -> str:
    """`enough`: chosen because the corrections need no more of it."""
    if strength == 1:
        return ""
    why = (
        "the smallest at which every correction leads as it should"
        if enough
        else "the largest at which every control keeps its budget"
    )
    return f", at strength {strength:g}, {why}"
