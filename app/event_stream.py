"""Server-sent events: an edit job again and again, whenever it changes, until it has ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request

from app.schemas.edit_jobs import EditJobDetail
from registry.errors import DatabaseError

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
ENDED = ("succeeded", "rejected", "failed", "cancelled")
LOOK_EVERY = 0.25
KEEP_ALIVE = 10.0
UNKNOWN = ": the database does not answer\n\n"


async def changes(
    request: Request, look: Callable[[], Awaitable[EditJobDetail]], stopping: threading.Event
) -> AsyncIterator[str]:
    """Events for each new state that ``look`` gives, until the job has ended.

    Ends as well when the client has gone or the service stops. A comment line every
    ``KEEP_ALIVE`` seconds keeps proxies from closing a quiet connection. While the database does
    not answer, which a comment line says, it is asked again.
    """
    sent, sent_at = "", 0.0
    while not await request.is_disconnected():
        state = await _find_state(look)
        told = UNKNOWN if state is None else f"data: {state.model_dump_json()}\n\n"
        if told != sent:
            sent, sent_at = told, time.monotonic()
            yield told
        elif time.monotonic() - sent_at > KEEP_ALIVE:
            sent_at = time.monotonic()
            yield ": still here\n\n"
        if (state is not None and state.status in ENDED) or stopping.is_set():
            return
        await asyncio.sleep(LOOK_EVERY)


async def _find_state(look: Callable[[], Awaitable[EditJobDetail]]) -> EditJobDetail | None:
    """None where the database does not answer: a stream that has begun cannot say so by a status,
    and would leave its reader to think that nothing changes any more."""
    try:
        return await look()
    except DatabaseError:
        return None
