"""The largest strength of an edit that keeps every budget.

`start` + a · edit for a from 0 to 1 (WiSE-FT, arXiv 2109.01903; PAINT, arXiv 2208.05592).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from editing.control import ControlChange
from editing.examiner import Examiner
from editing.judged_texts import Embedded
from encoder.clip import Encoder


def strongest(
    make_candidate: Callable[[float], Encoder], examiner: Examiner, steps: int
) -> tuple[float, Encoder, tuple[ControlChange, ...]]:
    """The largest strength that keeps every budget, of the multiples of 1 / steps; 1 if none does.
    With it the encoder and what it does to every control.

    Tried first is 1. Then come strengths at which features blended between the two ends keep every
    budget, which costs one forward pass at most for all of them; then the interval is halved.
    More change is taken to break more, so a strength counts only once it has been measured.
    Questions cost most: they are asked where the images that are classified keep their budgets.
    """
    full = make_candidate(1.0)
    features = examiner.features(full)
    changes = examiner.changes(features)
    everything = changes + examiner.asked(full)
    best = (1.0, full, everything)
    if _all_within(everything):
        return best
    likely: list[int] = []
    if not _all_within(changes):
        likely = _likely(examiner, examiner.features_before(), features, steps)
    kept, broken = 0, steps
    while broken - kept > 1:
        probe = _probe(kept, broken, likely)
        candidate = make_candidate(probe / steps)
        changes = examiner.changes(examiner.features(candidate))
        if _all_within(changes):
            changes += examiner.asked(candidate)
        if _all_within(changes):
            kept, best = probe, (probe / steps, candidate, changes)
        else:
            broken = probe
    return best


def _likely(
    examiner: Examiner, start: Sequence[Embedded], full: Sequence[Embedded], steps: int
) -> list[int]:
    """The strengths, in steps and ascending, at which blended features keep every budget."""
    blended = (
        (step, [a.towards(b, step / steps) for a, b in zip(start, full, strict=True)])
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


def at_strength(strength: float) -> str:
    if strength == 1:
        return ""
    return f", at strength {strength:g}, the largest at which every control keeps its budget"
