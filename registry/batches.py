"""Long lists in pieces that one statement can name and one short transaction can finish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

AT_ONCE = 100
"""Far below the parameters a statement may have; removing so many files, several at a time
(`ArtifactStore.each`), takes a remote store a second: other writers wait three for their turn."""
T = TypeVar("T")


def batches(items: Sequence[T], size: int = AT_ONCE) -> Iterator[Sequence[T]]:
    """All of the items in order, `size` at a time; the last piece may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
