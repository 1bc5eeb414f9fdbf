"""The mean of the numbers that training passes through, instead of the last ones.

Stochastic weight averaging (arXiv 1803.05407): step sizes stay up, the numbers wander around a
good region, and their mean lies in the middle of it, where less is changed by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class RunningMean:
    """Of tensors of always the same shapes, in their own precision. Holds one copy of them."""

    def __init__(self) -> None:
        self._mean: list[Tensor] | None = None
        self._count = 0

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Reads them now; later changes of the caller's tensors do not count."""
        self._count += 1
        if self._mean is None:
            self._mean = [each.detach().clone() for each in tensors]
            return
        for mean, each in zip(self._mean, tensors, strict=True):
            mean.lerp_(each.detach(), 1 / self._count)

    @property
    def mean(self) -> list[Tensor] | None:
        """None before anything was added."""
        return self._mean
