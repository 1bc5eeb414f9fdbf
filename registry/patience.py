"""How long a caller may wait here, and what is known of a database that stopped answering.

A server that is frozen, or a network that swallows packets, keeps connections open and answers
nothing: no error comes, and whoever waits would wait for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Clock:
    """A caller's time in seconds. It runs from the start, and stands still where that is asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = time.monotonic() + seconds  # None while it stands still

    @property
    def left(self) -> float | None:
        """Seconds, negative when the time is over; None while the clock stands still."""
        until = self._until
        return None if until is None else until - time.monotonic()

    def restart(self) -> None:
        """Gives the whole time again."""
        self._until = time.monotonic() + self._seconds

    def stop(self) -> None:
        """From now on nobody waits for an answer, or for as long as it takes."""
        self._until = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done within is not counted."""
        left = self.left
        self._until = None
        try:
            yield
        finally:
            self._until = None if left is None else time.monotonic() + left


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


def set_clock(clock: Clock) -> None:
    """For everything that is done in this context from now on, and in threads that inherit it."""
    _clock.set(clock)


def running_clock() -> Clock | None:
    """The clock of this context, if it has one."""
    return _clock.get()


def seconds_left() -> float | None:
    """None where the caller has no clock, or it stands still."""
    clock = _clock.get()
    return None if clock is None else clock.left


class NoAnswer(Exception):
    """The database was asked before and has not answered since."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"it has not answered for {seconds:.0f} s")


class Line:
    """Whether one database answers, as all of its connections see it.

    While it is silent one caller at a time may ask it, and all others are told at once: otherwise
    every thread of the process would soon wait for it.
    """

    def __init__(self) -> None:
        self._silent_since: float | None = None
        self._asking = threading.Lock()

    def heard(self) -> None:
        """It answered."""
        self._silent_since = None

    def missed(self) -> None:
        """It did not answer in good time."""
        if self._silent_since is None:
            self._silent_since = time.monotonic()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around every use. Raises NoAnswer."""
        since = self._silent_since
        if since is None:
            yield
            return
        if not self._asking.acquire(blocking=False):
            raise NoAnswer(time.monotonic() - since)
        try:
            yield
        finally:
            self._asking.release()
