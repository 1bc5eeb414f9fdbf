"""How answers are scored: accuracy, agreement with ten people, area under the ROC curve, spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.vqa.answer_text import normalise_answer

AGREEING = 3
"""People who must have given an answer for it to count in full."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1; 0 of a single value) of one number over seeds."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError without values."""
        if not values:
            raise ValueError("no values")
        mean = sum(values) / len(values)
        if len(values) == 1:
            return cls(mean, 0.0, 1)
        squares = sum((value - mean) ** 2 for value in values)
        return cls(mean, math.sqrt(squares / (len(values) - 1)), len(values))


def accuracy(chosen: Sequence[int], right: Sequence[int]) -> float:
    """Percent of positions at which both agree. Raises ValueError for none or unequally many."""
    if not right:
        raise ValueError("no answers")
    agreeing = sum(a == b for a, b in zip(chosen, right, strict=True))
    return 100 * agreeing / len(right)


def open_answer_score(answer: str, people: Sequence[str]) -> float:
    """0..1: min(n / 3, 1) over every choice of all people but one, averaged (VQA's and VizWiz's).

    n: how many of those people gave the same answer, after `normalise_answer` of both sides.
    """
    if not people:
        raise ValueError("nobody answered")
    ours = normalise_answer(answer)
    same = [normalise_answer(each) == ours for each in people]
    scores = [min((sum(same) - left_out) / AGREEING, 1.0) for left_out in same]
    return sum(scores) / len(scores)


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Probability that a positive one has the higher score; a tie counts half.

    Raises ValueError unless there are both kinds.
    """
    pairs = sorted(zip(scores, positive, strict=True))
    positives = sum(positive)
    negatives = len(pairs) - positives
    if not positives or not negatives:
        raise ValueError("AUROC needs positive and negative examples")
    ranks, place = 0.0, 0
    while place < len(pairs):
        end = place
        while end < len(pairs) and pairs[end][0] == pairs[place][0]:
            end += 1
        average = (place + 1 + end) / 2  # ranks from 1, shared by equal scores
        ranks += average * sum(kind for _, kind in pairs[place:end])
        place = end
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)
