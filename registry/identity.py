"""Ids that sort by the time they were made (RFC 9562, version 7)."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """32 hex digits: 48 bits of milliseconds, 12 bits of the rest of the time, 62 random bits."""
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    value = milliseconds << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return f"{value:032x}"
