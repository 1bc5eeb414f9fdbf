"""What a question about an image, its answers and its options may be."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from registry.errors import LabelDuplicate, LabelInvalid, QuestionInvalid
from registry.labels import flaw, normalise_labels

MAX_QUESTION = 4000
"""Characters, after normalisation."""
MAX_ANSWER = 1000
"""Characters of an answer; an option is as long as a label at most."""
MIN_OPTIONS, MAX_OPTIONS = 2, 64


def normalise_question(text: str) -> str:
    """NFC, outer white space removed; may have several lines. Raises QuestionInvalid."""
    return _normalised(text, "question", MAX_QUESTION)


def normalise_answer(text: str, part: str = "answer") -> str:
    """As a question; `part` names it in the error. Raises QuestionInvalid."""
    return _normalised(text, part, MAX_ANSWER)


def normalise_options(texts: Sequence[str]) -> list[str]:
    """2 to 64, each as labels are normalised, in order, no two the same. Raises QuestionInvalid."""
    if not MIN_OPTIONS <= len(texts) <= MAX_OPTIONS:
        reason = f"must be {MIN_OPTIONS} to {MAX_OPTIONS}, not {len(texts)}"
        raise QuestionInvalid("options", reason)
    try:
        return normalise_labels(texts)
    except LabelInvalid as refusal:
        raise QuestionInvalid("option", refusal.reason) from refusal
    except LabelDuplicate as refusal:
        raise QuestionInvalid("option", f"{refusal.label[:60]!r} stands twice") from refusal


def among(answer: str, options: Sequence[str]) -> str:
    """The answer, which must be one of the options. Raises QuestionInvalid."""
    if answer not in options:
        raise QuestionInvalid("answer", f"{answer[:60]!r} is not among the options")
    return answer


def answer_key(answer: str) -> str:
    """The same for answers that differ in nothing but case, spaces or a final full stop."""
    return " ".join(answer.casefold().split()).rstrip(".")


def question_digest(question: str) -> str:
    """sha256 in hex; '' for no question."""
    return hashlib.sha256(question.encode()).hexdigest() if question else ""


def _normalised(text: str, part: str, limit: int) -> str:
    clean = unicodedata.normalize("NFC", text).strip()
    reason = flaw(clean, limit, spared="\n\r\t")
    if reason is not None:
        raise QuestionInvalid(part, reason)
    return clean
