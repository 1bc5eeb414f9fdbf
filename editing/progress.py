"""How a long edit reports where it stands, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, float | None], None]
"""`progress(phase, step, steps, loss)`, phase one of "scoring", "training", "gating".

Called between batches; an edit that is fitted twice goes through them twice. It may raise
`errors.EditCancelled`, which passes through unchanged.
"""


def silent(phase: str, step: int, steps: int, loss: float | None) -> None:
    """Report nothing."""
