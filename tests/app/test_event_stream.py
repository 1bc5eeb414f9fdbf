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
from registry.errors import DatabaseUnavailable


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
    events = _events([same, same, ended])
    assert events[0] == f"data: {same.model_dump_json()}\n\n"
    assert events[1].startswith(":")
    assert events[2] == f"data: {ended.model_dump_json()}\n\n"
    assert len(events) == 3


def test_a_database_that_comes_back_does_not_cut_the_stream() -> None:
    away = DatabaseUnavailable("somewhere", "it went away")
    begun, ended = _job("running"), _job("succeeded")
    events = _events([away, begun, away, away, begun, ended])
    comments = [event for event in events if event.startswith(":")]
    states = [event for event in events if event.startswith("data:")]
    assert len(comments) == 2
    assert states[0] == f"data: {begun.model_dump_json()}\n\n"
    assert states[-1] == f"data: {ended.model_dump_json()}\n\n"
    assert len(events) == len(comments) + len(states)


def test_a_service_that_stops_does_not_wait_for_its_database() -> None:
    stopping = threading.Event()
    stopping.set()
    assert len(_events([DatabaseUnavailable("somewhere", "it went away")], stopping)) == 1


def _events(
    looks: list[EditJobDetail | DatabaseUnavailable], stopping: threading.Event | None = None
) -> list[str]:
    """What the stream says when looking gives or raises these in turn."""
    rest = iter(looks)

    async def look() -> EditJobDetail:
        found = next(rest)
        if isinstance(found, Exception):
            raise found
        return found

    async def read() -> list[str]:
        stream = changes(Reader().request, look, stopping or threading.Event())
        return [event async for event in stream]

    return asyncio.run(read())


def test_nobody_looks_after_the_reader_has_left() -> None:
    looked = 0

    async def look() -> EditJobDetail:
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
