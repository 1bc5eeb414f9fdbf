"""Exact one-sided tests: is what a control set lost more than its budget, or only chance?"""

from __future__ import annotations

import math


def binomial_tail(hits: int, trials: int, probability: float) -> float:
    """P(at least `hits` of `trials` independent events of this probability)."""
    if hits <= 0:
        return 1.0
    if probability <= 0:
        return 0.0
    if probability >= 1:
        return 1.0 if hits <= trials else 0.0
    yes, no = math.log(probability), math.log1p(-probability)
    whole = math.lgamma(trials + 1)

    def term(k: int) -> float:
        ways = whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        return math.exp(ways + k * yes + (trials - k) * no)

    return min(1.0, math.fsum(term(k) for k in range(hits, trials + 1)))


def loss_p_value(*, broken: int, fixed: int, allowed: float) -> float:
    """McNemar's exact test, shifted by what may be lost.

    broken: answers that went from right to wrong; fixed: from wrong to right. Of the answers that
    changed sides, each is a broken one with the probability that makes `allowed` net losses (a
    count, may be fractional) the expectation; the p-value is the chance of this many or more.
    """
    changed = broken + fixed
    if changed == 0:
        return 1.0
    return binomial_tail(broken, changed, min(1.0, (changed + allowed) / (2 * changed)))


def flip_p_value(*, flips: int, images: int, allowed: float) -> float:
    """Chance of `flips` or more of `images` answers changing when `allowed` (a share) may."""
    return binomial_tail(flips, images, allowed)
