"""Shapes of `/health`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """Model and database answer."""

    status: Literal["ready"]
    encoder: str
    encoder_digest: str
    live: int
