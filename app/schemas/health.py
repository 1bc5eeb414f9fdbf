"""Shapes of `/health`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """Model and database answer. ``live`` is the version that answers here; it is ``promoted``, or
    the one before it while that cannot be served."""

    status: Literal["ready"]
    encoder: str
    encoder_digest: str
    live: int
    promoted: int
