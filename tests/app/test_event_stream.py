"""The stream of an edit job's states, apart from HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from starlette.requests import Request
from starlette.types import Message

from app import event_stream
from app.event_stream import changes
from app.schemas.edit_jobs import EditJobDetail, Progress


def _job(status: str, *, step: int = 0) -> EditJobDetail:
    now = datetime.now(UTC)
    return EditJobDetail(
        id="1",
        number=1,
        status=status,
        progress=Progress(step=step),
        corrections=[],
        parent=None,
        adapter=None,
        report=None,
        error=None,
        method="lorsu",
        config={},
        seed=0,
        attempt=0,
        cancel_requested=False,
        created_at=now,
        starts_at=now,
        started_at=None,
        finished_at=None,
    )


class Reader:
    """A client that leaves when told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "LOOK_EVERY", 0.01)


def test_an_unchanged_job_is_told_once_and_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE", 0.0)
    same, ended = _job("running"), _job("succeeded")
    looks = iter([same, same, ended])

    async def read() -> list[str]:
        stream = changes(Reader().request, lambda: next(looks), threading.Event())
        return [event async for event in stream]

    events = asyncio.run(read())
    assert events[0] == f"data: {same.model_dump_json()}\n\n"
    assert events[1].startswith(":")
    assert events[2] == f"data: {ended.model_dump_json()}\n\n"
    assert len(events) == 3


def test_nobody_looks_after_the_reader_has_left() -> None:
    looked = 0

    def look() -> EditJobDetail:
        nonlocal looked
        looked += 1
        return _job("running", step=looked)

    async def read() -> None:
        reader = Reader()
        stream: AsyncIterator[str] = changes(reader.request, look, threading.Event())
        await anext(stream)
        reader.gone.set()
        assert [event async for event in stream] == []

    asyncio.run(read())
    assert looked == 1
