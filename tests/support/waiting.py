"""Waiting for a condition with a deadline: the tests never sleep for a fixed time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from servers.waiting import wait_until

Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value], *, seconds: float, what: str) -> Value:
    """The first truthy value of `condition`; AssertionError naming `what` at the deadline."""
    try:
        return wait_until(condition, seconds=seconds, what=what)
    except TimeoutError as late:
        raise AssertionError(str(late)) from None
