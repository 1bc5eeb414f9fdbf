"""The worker gives way: the API on the same machine answers first."""

from __future__ import annotations

import os

LOWEST = 19  # niceness, POSIX range -20..19


def give_way() -> None:
    """Lowers this process to the lowest priority; threads started later inherit it."""
    os.nice(LOWEST)
