"""Arguments of the operator's commands that need more than a type."""

from __future__ import annotations

import argparse

FEWEST_HOURS = 1.0
"""What was put less long ago may be about to be named; a backup takes its time too."""
MOST_HOURS = 24.0 * 365


def hours(text: str) -> float:
    """Raises argparse's ArgumentTypeError, which is told in a sentence."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not FEWEST_HOURS <= number <= MOST_HOURS:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no number of hours from {FEWEST_HOURS:g} to {MOST_HOURS:g}"
        )
    return number
