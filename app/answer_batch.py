"""What the desk does with the questions that it takes together.

Legend: B questions with an image of one version, S side, L tokens of a prompt, D decoder width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from app.tickets import Ticket, Told
from encoder.clip import Encoder
from encoder.errors import EncoderError
from encoder.vlm import answering
from encoder.vlm.answering import Decoding, Sampling
from encoder.vlm.errors import NotFinite, PromptError
from encoder.vlm.model import Prompt


@dataclass(frozen=True)
class Prompted:
    """A question that is ready to be answered."""

    ticket: Ticket
    prompt: Prompt

    @property
    def tokens(self) -> int:
        """Of the prompt, the image's among them."""
        return self.prompt.text_tokens + self.prompt.image_tokens


def read_questions(tickets: Sequence[Ticket]) -> list[Prompted]:
    """Those that can be put to the model; the others are told why not."""
    images = _image_tokens(tickets)
    prompted: list[Prompted] = []
    for ticket, image in zip(tickets, images, strict=True):
        asked = ticket.asked
        if isinstance(image, EncoderError):
            ticket.fail(image)
            continue
        try:
            if isinstance(asked.words, str):
                prompt = asked.vlm.question(asked.words, image)
            else:
                prompt = asked.vlm.prompt(asked.words, image)
        except EncoderError as refusal:
            ticket.fail(refusal)
            continue
        one = Prompted(ticket, prompt)
        ticket.read(one.tokens)
        prompted.append(one)
    return prompted


def score_options(asked: Sequence[Prompted]) -> None:
    """Answers questions that have options; who asks for more than the context holds is told so."""
    vlm = asked[0].ticket.asked.vlm
    prompts = [each.prompt for each in asked]
    options = [each.ticket.asked.options for each in asked]
    try:
        found = answering.score_options(vlm, prompts, options)
    except PromptError as refusal:  # of one of them: the others are answered all the same
        if len(asked) == 1:
            asked[0].ticket.fail(refusal)
            return
        for each in asked:
            score_options([each])
        return
    for each, scores in zip(asked, found, strict=True):
        if all(math.isfinite(one.log_likelihood) for one in scores):
            each.ticket.score(tuple(scores))
        else:
            each.ticket.fail(NotFinite("the likelihood of an option"))


class Conversation:
    """Answers that are generated together, token by token; questions may join at any time."""

    def __init__(self) -> None:
        self._decoding: Decoding | None = None
        self._open: dict[int, Ticket] = {}  # by the row of the decoding

    @property
    def tickets(self) -> list[Ticket]:
        """Of the answers that are not complete."""
        return list(self._open.values())

    def join(self, asked: Sequence[Prompted]) -> None:
        """From the next step on these are answered too."""
        vlm = asked[0].ticket.asked.vlm
        if self._decoding is None:
            self._decoding = Decoding(vlm, [], [])
        prompts = [each.prompt for each in asked]
        samplings = [_sampling(each) for each in asked]
        rows = self._decoding.join(prompts, samplings)
        self._open |= {row: each.ticket for row, each in zip(rows, asked, strict=True)}

    def step(self) -> int:
        """One more token for each, but for those that were dropped. Returns how many it were."""
        for row in [row for row, ticket in self._open.items() if ticket.dropped]:
            del self._open[row]
            if self._decoding is not None:
                self._decoding.drop(row)
        if self._decoding is None or not self._open:
            self._decoding = None  # and all that it keeps
            return 0
        pieces = self._decoding.step()
        for piece in pieces:
            told = Told(piece.text, piece.tokens, piece.finish_reason)
            self._open[piece.row].tell(told)
            if piece.finish_reason is not None:
                del self._open[piece.row]
        return len(pieces)


def _sampling(asked: Prompted) -> Sampling:
    wanted = asked.ticket.asked.sampling
    assert wanted is not None, "a question has options, or a way to answer it in words"
    return wanted


def _image_tokens(tickets: Sequence[Ticket]) -> list[Tensor | EncoderError | None]:
    """[T', D] for each question that has an image, computed for all images of a version at once; or
    what keeps a version from seeing them, which concerns no other version."""
    found: list[Tensor | EncoderError | None] = [None] * len(tickets)
    for encoder, places in _by_encoder(tickets):
        vlm = tickets[places[0]].asked.vlm
        pixels = [tickets[place].asked.pixels for place in places]
        batch = torch.stack([one for one in pixels if one is not None])  # uint8 [B, 3, S, S]
        try:
            seen = vlm.image_tokens(encoder, batch)  # [B, T', D]
        except EncoderError as failure:
            for place in places:
                found[place] = failure
            continue
        finite = seen.isfinite().flatten(1).all(dim=1).tolist()
        for place, tokens, sane in zip(places, seen, finite, strict=True):
            version = tickets[place].asked.version
            unseen = NotFinite(f"what version {version} sees of the image")
            found[place] = tokens if sane else unseen
    return found


def _by_encoder(tickets: Sequence[Ticket]) -> Iterable[tuple[Encoder, list[int]]]:
    """Each encoder that is asked about images, and the places of those who ask it."""
    groups: dict[int, tuple[Encoder, list[int]]] = {}
    for place, ticket in enumerate(tickets):
        if ticket.asked.pixels is not None:
            encoder = ticket.asked.encoder
            groups.setdefault(id(encoder), (encoder, []))[1].append(place)
    return groups.values()
