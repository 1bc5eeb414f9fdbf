"""What listing a store finds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class FoundFile:
    """`name` is relative to the store; `modified` is by the store's own clock, None when that does
    not say."""

    name: str
    bytes: int
    modified: datetime | None
