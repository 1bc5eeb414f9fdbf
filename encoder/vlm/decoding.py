"""Answers to a batch of prompts, a token each a step.

Every row is padded in front, so that rows end together whatever their lengths. A row that is
finished or dropped leaves the batch before the next step, and new prompts may join it: a step
costs what the rows that are left cost.

Legend: B rows, L tokens of the longest prompt, C columns kept, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from encoder.memory import memory_watched
from encoder.vlm.answer_text import AnswerText
from encoder.vlm.decoder_pass import (
    batches,
    check_length,
    embedded,
    hidden_states,
    logits,
    padded,
)
from encoder.vlm.key_values import KeyValues, Stretch
from encoder.vlm.model import Prompt, VisionLanguageModel
from encoder.vlm.sampling import Sampling, TokenDraw

_PASSES_KEPT = 4  # a step reads all weights however few its rows, so more of them than a pass takes

FinishReason: TypeAlias = Literal["stop", "length"]
"""Ended by itself or before a stop text; or by `max_tokens` or a full context."""


@dataclass(frozen=True)
class Piece:
    """What a step added to one answer."""

    row: int  # as numbered by `Decoding`
    text: str  # whole characters; may be empty
    tokens: int  # of the answer so far, the end token not counted
    finish_reason: FinishReason | None  # of the answer's last piece


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int
    finish_reason: FinishReason


class Decoding:
    """Prompts being answered together. One thread steps; any thread may drop rows."""

    def __init__(
        self, vlm: VisionLanguageModel, prompts: Sequence[Prompt], sampling: Sequence[Sampling]
    ) -> None:
        self._vlm = vlm
        self._cache: KeyValues | None = None
        self._active: list[_Row] = []  # in the cache's order
        self._waiting: list[_Row] = []
        self._rows: dict[int, _Row] = {}  # those that are not done
        self._taken = 0  # numbers given to rows
        self.join(prompts, sampling)

    def join(self, prompts: Sequence[Prompt], sampling: Sequence[Sampling]) -> range:
        """Take in more prompts at the next step; returns the numbers of their rows.

        Raises AnswerTooLong for a prompt that leaves no room for one token.
        """
        for prompt in prompts:
            check_length(self._vlm, len(prompt.embeddings) + 1)
        numbers = range(self._taken, self._taken + len(prompts))
        fresh = [_Row(self._vlm, *each) for each in zip(numbers, prompts, sampling, strict=True)]
        self._taken = numbers.stop
        self._rows |= zip(numbers, fresh, strict=True)
        self._waiting += fresh
        return numbers

    @property
    def done(self) -> bool:
        """Every answer is finished or dropped."""
        return not any(row.wanted for row in list(self._rows.values()))

    def drop(self, row: int) -> None:
        """Nobody wants this answer any more: from the next step on it costs nothing."""
        unwanted = self._rows.get(row)
        if unwanted is not None:
            unwanted.wanted = False

    def step(self) -> list[Piece]:
        """One token more for every answer that is not finished. Raises OutOfMemory."""
        with memory_watched(self._vlm.device), torch.inference_mode():
            self._leave()
            pieces = self._advance()
            pieces += self._enter()
        if self.done:  # nothing is kept until somebody joins
            self._cache, self._active, self._rows = None, [], {}
        return pieces

    def _leave(self) -> None:
        """Rows that are finished or dropped give up their place in the cache."""
        self._waiting = [row for row in self._waiting if row.wanted]
        staying = [row.wanted for row in self._active]
        if all(staying):
            return
        stretches = [
            stretch for stretch, stays in zip(self._stretches(), staying, strict=True) if stays
        ]
        self._active = [row for row, stays in zip(self._active, staying, strict=True) if stays]
        self._cache = KeyValues.stacked(stretches) if stretches else None
        self._rows = {row.number: row for row in [*self._active, *self._waiting]}

    def _advance(self) -> list[Piece]:
        """The next token of those that have begun."""
        if self._cache is None:
            return []
        device = self._vlm.device
        held = torch.tensor([row.held for row in self._active], device=device)  # [B]
        latest = torch.tensor([row.latest for row in self._active], device=device)  # [B]
        columns = torch.arange(self._cache.get_seq_length() + 1, device=device)
        visible = columns >= len(columns) - 1 - held[:, None]  # [B, C]
        states = hidden_states(
            self._vlm,
            embedded(self._vlm, latest[:, None]),
            held[:, None],
            visible[:, None],
            self._cache,
        )
        for row in self._active:
            row.held += 1
        return _say(self._active, logits(self._vlm, states[:, 0]))

    def _enter(self) -> list[Piece]:
        """The first token of those that wait."""
        if not self._waiting:
            return []
        pieces: list[Piece] = []
        stretches = self._stretches()
        for batch in batches([row.held for row in self._waiting], self._vlm.device):
            rows = [self._waiting[index] for index in batch]
            prefix = KeyValues()
            prompts = padded([row.take_embeddings() for row in rows])  # [B, L, D]
            states = hidden_states(self._vlm, prompts, cache=prefix)
            ends = torch.tensor([row.held - 1 for row in rows], device=states.device)
            last = states[torch.arange(len(rows), device=states.device), ends]  # [B, D]
            pieces += _say(rows, logits(self._vlm, last))
            stretches += [Stretch(prefix, place, 0, row.held) for place, row in enumerate(rows)]
            self._active += rows
        self._waiting = []
        self._cache = KeyValues.stacked(stretches)
        return pieces

    def _stretches(self) -> list[Stretch]:
        if self._cache is None:
            return []
        width = self._cache.get_seq_length()
        return [
            Stretch(self._cache, place, width - row.held, row.held)
            for place, row in enumerate(self._active)
        ]


class _Row:
    """One answer in the making."""

    def __init__(
        self, vlm: VisionLanguageModel, number: int, prompt: Prompt, sampling: Sampling
    ) -> None:
        self.number = number
        self.wanted = True
        self.held = len(prompt.embeddings)  # tokens whose keys and values are kept
        self.latest = -1  # the token said last: said, but not kept yet
        self._embeddings = prompt.embeddings
        self._draw = TokenDraw(sampling)
        self._text = AnswerText(vlm.tokenizer, sampling.stop)
        self._end = vlm.words.end
        self._room = min(sampling.max_tokens, vlm.context_length - self.held)
        self._tokens = 0

    @property
    def greedy(self) -> bool:
        return self._draw.greedy

    def take_embeddings(self) -> Tensor:
        """[L_b, D], once: kept no longer than needed."""
        found, self._embeddings = self._embeddings, self._embeddings[:0].clone()
        return found

    def draw(self, logits: Tensor) -> int:
        return self._draw.choose(logits)

    def say(self, token: int) -> Piece:
        """Take in the chosen token."""
        if token == self._end:
            return self._finish("stop", self._text.finish())
        self.latest = token
        self._tokens += 1
        text = self._text.push(token)
        if self._text.stopped:
            return self._finish("stop", text)
        if self._tokens == self._room:
            text += self._text.finish()
            return self._finish("stop" if self._text.stopped else "length", text)
        return Piece(self.number, text, self._tokens, None)

    def _finish(self, reason: FinishReason, text: str) -> Piece:
        self.wanted = False
        return Piece(self.number, text, self._tokens, reason)


def generate(
    vlm: VisionLanguageModel, prompts: Sequence[Prompt], sampling: Sequence[Sampling]
) -> list[Answer]:
    """All answers, in the prompts' order. Raises AnswerTooLong, OutOfMemory."""
    found: dict[int, Answer] = {}
    lengths = [len(prompt.embeddings) for prompt in prompts]
    for batch in batches(lengths, vlm.device, passes=_PASSES_KEPT):
        answers = _generate(vlm, [prompts[i] for i in batch], [sampling[i] for i in batch])
        found |= zip(batch, answers, strict=True)
    return [found[index] for index in range(len(prompts))]


def _generate(
    vlm: VisionLanguageModel, prompts: Sequence[Prompt], sampling: Sequence[Sampling]
) -> list[Answer]:
    """One batch."""
    decoding = Decoding(vlm, prompts, sampling)
    texts = [""] * len(prompts)
    last: dict[int, Piece] = {}
    while not decoding.done:
        for piece in decoding.step():
            texts[piece.row] += piece.text
            last[piece.row] = piece
    return [
        Answer(text, last[row].tokens, last[row].finish_reason or "length")
        for row, text in enumerate(texts)
    ]


def _say(rows: Sequence[_Row], scores: Tensor) -> list[Piece]:
    """Logits [B, V] to a token each; those of dropped rows are said, too, but told to nobody."""
    likeliest = scores.argmax(dim=-1).tolist()
    pieces = []
    for place, row in enumerate(rows):
        told = row.wanted
        token = likeliest[place] if row.greedy else row.draw(scores[place])
        piece = row.say(token)
        if told:
            pieces.append(piece)
    return pieces
