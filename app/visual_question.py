"""One request of `/vqa`: what it asks, and how it is answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from app.errors import FieldInvalid
from app.question_limit import checked_options, checked_question
from app.schemas.vqa import OptionLikelihood, VqaAnswer
from app.tickets import Ticket
from app.uploads import read_upload, version_of
from encoder.vlm.answering import OptionScore, Sampling

FIELDS = frozenset({"question", "option", "adapter", "model", "normalise"})
ANSWER_TOKENS = 64  # of an answer without options
GREEDILY = Sampling(max_tokens=ANSWER_TOKENS)


@dataclass(frozen=True)
class VisualQuestion:
    """``version`` None asks the live encoder, ``model`` None the one that is served; ``normalise``
    lets the likelihood of a token decide, and not that of the whole option, which chose better
    where it was measured (``encoder/bundled/vlm/MODEL_CARD.md``)."""

    image: bytes
    question: str
    options: tuple[str, ...]
    version: int | None
    model: str | None
    normalise: bool


async def read_visual_question(request: Request) -> VisualQuestion:
    """The question in a request's body. Raises what `read_upload` raises, and `FieldInvalid`."""
    upload = await read_upload(request, FIELDS, images_limit=1)
    if not upload.images:
        raise FieldInvalid("image", "an image is needed")
    return VisualQuestion(
        image=upload.images[0],
        question=checked_question(upload.text("question")),
        options=checked_options(upload.texts("option")),
        version=version_of(upload.one("adapter")),
        model=upload.text("model"),
        normalise=upload.flag("normalise"),
    )


async def answer_of(question: VisualQuestion, ticket: Ticket, request: Request) -> VqaAnswer:
    """Waits for the desk. Raises what keeps the question from being answered, and
    `ClientDisconnect` where nobody waits for the answer any more."""
    await ticket.begun()
    if question.options:
        scores = await ticket.scores()
        options = likelihoods(scores, normalise=question.normalise)
        best = max(options, key=lambda each: each.score)
        return _answer(question, ticket, best.option, options, "stop")
    text, finish = "", None
    async for piece in ticket.pieces():
        text, finish = text + piece.text, piece.finish
        if await request.is_disconnected():
            raise ClientDisconnect
    return _answer(question, ticket, text.strip(), [], finish or "stop")


def likelihoods(scores: Sequence[OptionScore], *, normalise: bool) -> list[OptionLikelihood]:
    """The options with a softmax over the log-likelihood that decides."""
    deciding = [each.mean if normalise else each.log_likelihood for each in scores]
    highest = max(deciding)
    weights = [math.exp(one - highest) for one in deciding]
    return [
        OptionLikelihood(
            option=each.option,
            score=weight / sum(weights),
            log_likelihood=each.log_likelihood,
            mean_log_likelihood=each.mean,
            tokens=each.tokens,
        )
        for each, weight in zip(scores, weights, strict=True)
    ]


def _answer(
    question: VisualQuestion,
    ticket: Ticket,
    answer: str,
    options: list[OptionLikelihood],
    finish: str,
) -> VqaAnswer:
    asked = ticket.asked
    return VqaAnswer(
        answer=answer,
        options=options,
        normalised=question.normalise,
        finish_reason=finish,
        model=asked.vlm.name,
        adapter=asked.version,
        encoder_digest=asked.encoder.digest,
        prompt_tokens=ticket.usage.prompt,
        answer_tokens=ticket.usage.answer,
    )
