"""Shapes of `/health`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class VlmStanding(BaseModel):
    """The vision-language model: where it comes from or, once loaded, what it is called."""

    name: str
    state: Literal["not asked yet", "loading", "loaded", "unusable"]


class Ready(BaseModel):
    """Model and database answer. ``live`` is the version that answers here; it is ``promoted``, or
    the one before it while that cannot be served. ``vlm`` is null where there is none."""

    status: Literal["ready"]
    encoder: str
    encoder_digest: str
    live: int
    promoted: int
    vlm: VlmStanding | None
