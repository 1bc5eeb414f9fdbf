"""Asking a vision-language model: the questions of a caller, and the ways to put them.

`answer_questions` is all that most callers need. Beneath it: `score_options` (how likely is each
option), `generate` and `Decoding` (free answers, at once or a token a step), and
`answer_likelihood` (the same likelihood as a differentiable function).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from encoder.vlm.decoding import Answer, Decoding, FinishReason, Piece, generate
from encoder.vlm.likelihood import answer_likelihood
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.options import OptionScore, score_options
from encoder.vlm.sampling import Sampling

__all__ = [
    "Answer",
    "Decoding",
    "FinishReason",
    "OptionScore",
    "Piece",
    "Question",
    "Reply",
    "Sampling",
    "answer_likelihood",
    "answer_questions",
    "generate",
    "score_options",
]

SHORT_ANSWER_TOKENS = 32
_TOGETHER = 128  # questions whose prompts are in memory at once


@dataclass(frozen=True, eq=False)
class Question:
    """One question about an image. Several about one image may share its tokens."""

    text: str
    image: Tensor | None  # [T', D] of `VisionLanguageModel.image_tokens`
    options: tuple[str, ...] = ()  # none: a free answer


@dataclass(frozen=True)
class Reply:
    """The likeliest option, or the free answer; `options` in the question's order."""

    answer: str
    options: tuple[OptionScore, ...] = ()

    @property
    def by_mean(self) -> str:
        """The option that is likeliest a token (length-normalised), or the free answer."""
        return max(self.options, key=lambda each: each.mean).option if self.options else self.answer


def answer_questions(
    vlm: VisionLanguageModel,
    questions: Sequence[Question],
    *,
    max_tokens: int = SHORT_ANSWER_TOKENS,
) -> list[Reply]:
    """Replies to any number of questions, in their order; free answers are greedy.

    Raises PromptTooLong, AnswerTooLong, OptionBlank, OutOfMemory.
    """
    replies: list[Reply] = []
    for start in range(0, len(questions), _TOGETHER):
        replies += _reply(vlm, questions[start : start + _TOGETHER], max_tokens)
    return replies


def _reply(vlm: VisionLanguageModel, questions: Sequence[Question], max_tokens: int) -> list[Reply]:
    prompts = [vlm.question(question.text, question.image) for question in questions]
    chosen = [index for index, question in enumerate(questions) if question.options]
    free = [index for index, question in enumerate(questions) if not question.options]
    scores = score_options(
        vlm, [prompts[index] for index in chosen], [questions[index].options for index in chosen]
    )
    answers = generate(vlm, [prompts[index] for index in free], [Sampling(max_tokens)] * len(free))
    found = {index: Reply(answer.text.strip()) for index, answer in zip(free, answers, strict=True)}
    for index, row in zip(chosen, scores, strict=True):
        best = max(row, key=lambda each: each.log_likelihood)
        found[index] = Reply(best.option, tuple(row))
    return [found[index] for index in range(len(questions))]
