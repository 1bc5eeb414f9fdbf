"""Server-sent events: an edit job again and again, whenever it changes, until it has ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.schemas.edit_jobs import EditJobDetail

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
ENDED = ("succeeded", "rejected", "failed", "cancelled")
LOOK_EVERY = 0.25
KEEP_ALIVE = 10.0


async def changes(
    request: Request, look: Callable[[], EditJobDetail], stopping: threading.Event
) -> AsyncIterator[str]:
    """Events for each new state that ``look`` gives, until the job has ended.

    Ends as well when the client has gone or the service stops. A comment line every
    ``KEEP_ALIVE`` seconds keeps proxies from closing a quiet connection.
    """
    sent, sent_at = "", 0.0
    while not await request.is_disconnected():
        state = await run_in_threadpool(look)
        content = state.model_dump_json()
        if content != sent:
            sent, sent_at = content, time.monotonic()
            yield f"data: {content}\n\n"
        elif time.monotonic() - sent_at > KEEP_ALIVE:
            sent_at = time.monotonic()
            yield ": still here\n\n"
        if state.status in ENDED or stopping.is_set():
            return
        await asyncio.sleep(LOOK_EVERY)
