"""What `/v1/chat/completions` answers: whole, or as a stream of server-sent events."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.errors import AppError, NotReady
from app.event_stream import HEADERS
from app.openai_errors import event_of, openai_error
from app.problems import problem_of, told
from app.schemas.chat import (
    AnswerMessage,
    ChatAnswer,
    ChatChunk,
    ChatUsage,
    Choice,
    ChunkChoice,
    Delta,
)
from app.tickets import Ticket, Told
from encoder.errors import EncoderError
from registry.identity import new_id

DONE = "data: [DONE]\n\n"
FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class Labelled:
    """What every part of one answer says about itself."""

    ticket: Ticket
    id: str = field(default_factory=lambda: f"chatcmpl-{new_id()}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def model(self) -> str:
        """The version that answers, as it can be asked again."""
        asked = self.ticket.asked
        return f"{asked.vlm.name}@{asked.version}"

    @property
    def fingerprint(self) -> str:
        """The beginning of its encoder's digest."""
        return f"emend-{self.ticket.asked.encoder.digest[:FINGERPRINT_DIGITS]}"

    def usage(self) -> ChatUsage:
        """Tokens so far."""
        used = self.ticket.usage
        return ChatUsage(
            prompt_tokens=used.prompt,
            completion_tokens=used.answer,
            total_tokens=used.prompt + used.answer,
        )

    def chunk(self, *choices: ChunkChoice, usage: ChatUsage | None = None) -> ChatChunk:
        """One event."""
        return ChatChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=list(choices),
            usage=usage,
        )


async def whole_answer(ticket: Ticket, request: Request) -> ChatAnswer:
    """Waits for the last piece. Raises what keeps it from coming, and `ClientDisconnect` where
    nobody waits for it any more."""
    label = Labelled(ticket)
    text, finish = "", None
    async for piece in ticket.pieces():
        text, finish = text + piece.text, piece.finish
        if await request.is_disconnected():
            raise ClientDisconnect
    return ChatAnswer(
        id=label.id,
        created=label.created,
        model=label.model,
        system_fingerprint=label.fingerprint,
        choices=[Choice(message=AnswerMessage(content=text), finish_reason=finish or "stop")],
        usage=label.usage(),
    )


class ChatStream(StreamingResponse):
    """An answer as it comes; when the client goes, so does the question."""

    def __init__(
        self, ticket: Ticket, first: Told, *, with_usage: bool, stopping: threading.Event
    ) -> None:
        self._ticket = ticket
        label = Labelled(ticket)
        headers = HEADERS | {"X-Adapter-Version": str(ticket.asked.version)}
        super().__init__(
            _events(label, first, with_usage=with_usage, stopping=stopping),
            media_type="text/event-stream",
            headers=headers,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drops the question at the end, however that comes about."""
        with self._ticket:
            await super().__call__(scope, receive, send)


async def _events(
    label: Labelled, first: Told, *, with_usage: bool, stopping: threading.Event
) -> AsyncIterator[str]:
    yield _event(label.chunk(ChunkChoice(delta=Delta(role="assistant", content=""))))
    piece = first
    try:
        while True:
            delta = Delta(content=piece.text) if piece.text else Delta()
            if piece.text or piece.finish is not None:
                yield _event(label.chunk(ChunkChoice(delta=delta, finish_reason=piece.finish)))
            if piece.finish is not None:
                break
            if stopping.is_set():
                raise NotReady("the service is stopping")
            piece = await label.ticket.piece()
    except (AppError, EncoderError) as error:  # it has begun: no status can tell it any more
        problem = problem_of(error)
        yield event_of(openai_error(problem.status, problem.slug, told(error), None))
        return
    if with_usage:
        yield _event(label.chunk(usage=label.usage()))
    yield DONE


def _event(chunk: BaseModel) -> str:
    return f"data: {chunk.model_dump_json()}\n\n"
