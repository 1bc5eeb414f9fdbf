"""No request waits for ever: what has not begun to be answered in time is answered with a 503.

The time is counted from the last part of the body that came in, and stands still while the service
itself computes (`uncounted`): a slow machine is no outage. It is over for good once the answer has
begun. What the request was doing is cancelled where it still waits for its turn; a thread that has
begun comes to its end, and does not ask the database any more (`registry.patience`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from prometheus_client import Counter
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import NoAnswerInTime
from app.problems import advice, answer, problem_of
from registry.patience import Clock, running_clock, set_clock

SECONDS = 4.0
"""For the database, a store, or a turn."""
GRACE = 0.4  # seconds, in which a failure that has a name is told before the general one
LOOK_AGAIN = 0.1  # seconds, while a clock stands still
WITHOUT_EFFECT = ("GET", "HEAD", "OPTIONS")
QUESTIONS = ("/classify", "/vqa", "/v1/chat/completions")


class Deadline:
    """ASGI middleware; ``counted`` counts problem documents by their slug."""

    def __init__(self, app: ASGIApp, *, counted: Counter, seconds: float = SECONDS) -> None:
        self.app = app
        self.counted = counted
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        clock = Clock(self.seconds)
        set_clock(clock)
        watch = _Watch(clock, lambda: self._give_up(scope, receive, send))
        try:
            with watch.scope:
                await self.app(scope, _until_read(clock, receive), watch.passing(send))
        finally:
            await watch.end()

    async def _give_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = NoAnswerInTime(self.seconds, _advice(scope["method"], scope["path"]))
        self.counted.labels(problem_of(error).slug).inc()
        await answer(error, Request(scope))(scope, receive, send)


class _Watch:
    """Looks at the clock of one request, without a task of its own while all is well."""

    def __init__(self, clock: Clock, give_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.scope = anyio.CancelScope()
        self._clock = clock
        self._give_up = give_up
        self._begun = False
        self._late: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(clock.left or 0, self._look)

    def passing(self, send: Send) -> Send:
        """``send`` until the request is given up; what is sent later is thrown away."""

        async def send_in_time(message: Message) -> None:
            if self._late is not None:
                return
            if message["type"] == "http.response.start":
                self._begun = True
                self._clock.stop()
                self._next.cancel()
            await send(message)

        return send_in_time

    async def end(self) -> None:
        """Returns once nothing is sent any more."""
        self._next.cancel()
        if self._late is not None:
            await self._late

    def _look(self) -> None:
        left = self._clock.left
        if self._begun:
            return
        if left is None or left > -GRACE:
            pause = LOOK_AGAIN if left is None else left + GRACE
            self._next = self._loop.call_later(pause, self._look)
            return
        self._late = self._loop.create_task(self._give_up())
        self.scope.cancel()


def _until_read(clock: Clock, receive: Receive) -> Receive:
    """``receive`` that counts nothing while the client is still sending; each part that comes in
    gives the whole time again, as what is done with one takes time too."""
    read = False

    async def receive_uncounted() -> Message:
        nonlocal read
        if read:
            return await receive()
        with clock.stopped():
            message = await receive()
        read = message["type"] != "http.request" or not message.get("more_body", False)
        clock.restart()
        return message

    return receive_uncounted


@contextmanager
def uncounted() -> Iterator[None]:
    """What is done within is computation of our own, however long it takes."""
    clock = running_clock()
    if clock is None:
        yield
        return
    with clock.stopped():
        yield


def _advice(method: str, path: str) -> str:
    if method in WITHOUT_EFFECT or path in QUESTIONS:
        return "ask again"
    return advice(method, path)
