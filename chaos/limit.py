"""A time after which a storm is called off, whatever it waits for."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TIDYING_SECONDS = 300.0
"""For what tidies up: longer than all its own limits together (clients, then six services)."""
ENDED_BY = (signal.SIGALRM, signal.SIGTERM)


class CalledOff(BaseException):
    """No Exception, and no TimeoutError above all: those are waited out all over a storm, by the
    HTTP client too."""


@contextmanager
def called_off_after(seconds: float) -> Iterator[Callable[[], None]]:
    """Raises CalledOff in the main thread after that time, or by SIGTERM. Once only, and not after
    the given function was called, so that tidying up is not cut short. Tidying that hangs ends the
    process by force."""

    def over() -> None:
        for one in ENDED_BY:
            signal.signal(one, signal.SIG_IGN)

    def end(number: int, _frame: FrameType | None) -> None:
        over()
        why = f"it was not over in {seconds:g} s" if number == signal.SIGALRM else "it was stopped"
        raise CalledOff(why)

    before = {one: signal.signal(one, end) for one in ENDED_BY}
    waiting = signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + TIDYING_SECONDS, exit=True)
    try:
        yield over
    finally:
        signal.setitimer(signal.ITIMER_REAL, *waiting)
        for one, handler in before.items():
            signal.signal(one, handler)
        faulthandler.cancel_dump_traceback_later()
