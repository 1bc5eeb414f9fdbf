"""Waiting for a condition with a deadline, instead of sleeping for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

LOOK_EVERY_SECONDS = 0.02
Value = TypeVar("Value")


def wait_until(condition: Callable[[], Value], *, seconds: float, what: str) -> Value:
    """The first truthy value of `condition`. Raises TimeoutError naming `what` at the deadline."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {seconds} s in vain for {what}")
        pause.wait(LOOK_EVERY_SECONDS)
