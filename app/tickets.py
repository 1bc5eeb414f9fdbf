"""One question under way: asked on the event loop, answered by the desk's thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from types import TracebackType

from torch import Tensor

from app.deadline import uncounted
from encoder.clip import Encoder
from encoder.vlm.answering import OptionScore, Sampling
from encoder.vlm.dialogue import Turn
from encoder.vlm.model import VisionLanguageModel


@dataclass(frozen=True)
class Asked:
    """What the desk needs to answer: one version's encoder, from the beginning to the end.

    `words` are a question, put into the model's own form for short answers, or a conversation.
    Exactly one of `options` and `sampling` is there.
    """

    vlm: VisionLanguageModel
    version: int
    encoder: Encoder
    pixels: Tensor | None  # uint8 [3, S, S]
    words: str | tuple[Turn, ...]
    options: tuple[str, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Told:
    """A piece of an answer; `finish` is "stop" or "length" with the last one."""

    text: str
    tokens: int  # of the answer so far
    finish: str | None


@dataclass(frozen=True)
class Usage:
    """Tokens of a prompt, the image's among them, and of the answer so far."""

    prompt: int = 0
    answer: int = 0


class _Begun:
    """The desk has taken the question; its sender's time stands still from here."""


News = _Begun | Told | tuple[OptionScore, ...] | BaseException


class Ticket:
    """Made on the event loop. Leaving its context drops the question, whatever became of it."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.usage = Usage()
        self.dropped = False
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[News] = asyncio.Queue()

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.drop()

    def drop(self) -> None:
        """Nobody reads the answer any more: the desk stops at its next step."""
        self.dropped = True

    async def begun(self) -> None:
        """Returns when the desk takes the question. Raises what kept it from being taken."""
        _raised(await self._news.get())

    async def scores(self) -> tuple[OptionScore, ...]:
        """Those of the options, in their order. Raises what kept them from being computed."""
        with uncounted():
            news = _raised(await self._news.get())
        assert isinstance(news, tuple)
        return news

    async def piece(self) -> Told:
        """The next piece of the answer. Raises what keeps it from being generated."""
        with uncounted():
            news = _raised(await self._news.get())
        assert isinstance(news, Told)
        return news

    async def pieces(self) -> AsyncIterator[Told]:
        """The pieces that are still to come, to the last one."""
        while True:
            told = await self.piece()
            yield told
            if told.finish is not None:
                return

    # The rest is for the desk's thread.

    def begin(self) -> None:
        """The question is taken."""
        self._tell(_Begun())

    def read(self, prompt_tokens: int) -> None:
        """The prompt has so many tokens."""
        self.usage = Usage(prompt_tokens)

    def tell(self, told: Told) -> None:
        """One more token, and the text that it made certain."""
        self.usage = replace(self.usage, answer=told.tokens)
        self._tell(told)

    def score(self, scores: tuple[OptionScore, ...]) -> None:
        """The answer to a question with options."""
        self._tell(scores)

    def fail(self, error: BaseException) -> None:
        """There will be no answer, or no more of it."""
        self._tell(error)

    def _tell(self, news: News) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)


def _raised(news: News) -> News:
    if isinstance(news, BaseException):
        raise news
    return news
