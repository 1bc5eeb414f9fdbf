"""Refuses a body over the limit while it is read, whether or not its length was announced."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge


class BodyLimit:
    """ASGI middleware: one limit for every path."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = receive_within(self.limit, scope, receive)
        await self.app(scope, receive, send)


def receive_within(limit: int, scope: Scope, receive: Receive) -> Receive:
    """``receive`` until the body is over ``limit`` bytes; then it raises `BodyTooLarge`.

    What is over the limit is read and thrown away, up to as much again, so that a client that is
    still sending hears the 413 and not a broken connection.
    """
    announced = Headers(scope=scope).get("content-length", "")
    too_large = announced.isdecimal() and int(announced) > limit
    received = 0

    async def receive_within_limit() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        while too_large or received > limit:
            if not message.get("more_body", False) or received > 2 * limit:
                raise BodyTooLarge(limit)
            message = await receive()
            received += len(message.get("body", b""))
        return message

    return receive_within_limit
