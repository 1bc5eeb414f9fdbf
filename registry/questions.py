"""What a question about an image, its answers and its options may be."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from registry.errors import QuestionInvalid

MAX_QUESTION = 4000
"""Characters, after normalisation."""
MAX_ANSWER = 1000
"""Characters of an answer or an option."""
MIN_OPTIONS, MAX_OPTIONS = 2, 64
_UNSTORABLE = {"Cc", "Cs"}
_BLANK = {"Cf", "Zs", "Zl", "Zp"}


def normalise_question(text: str) -> str:
    """NFC, outer white space removed; may have several lines. Raises QuestionInvalid."""
    return _normalised(text, "question", MAX_QUESTION)


def normalise_answer(text: str, part: str = "answer") -> str:
    """As a question; `part` names it in the error. Raises QuestionInvalid."""
    return _normalised(text, part, MAX_ANSWER)


def normalise_options(texts: Sequence[str]) -> list[str]:
    """2 to 64, each normalised, in order; no two may be one answer. Raises QuestionInvalid."""
    if not MIN_OPTIONS <= len(texts) <= MAX_OPTIONS:
        reason = f"must be {MIN_OPTIONS} to {MAX_OPTIONS}, not {len(texts)}"
        raise QuestionInvalid("options", reason)
    options = [normalise_answer(text, "option") for text in texts]
    seen: set[str] = set()
    for option in options:
        if answer_key(option) in seen:
            raise QuestionInvalid("option", f"{option[:60]!r} stands twice")
        seen.add(answer_key(option))
    return options


def chosen_option(answer: str, options: Sequence[str]) -> str:
    """The option that an answer means. Raises QuestionInvalid when it means none of them."""
    for option in options:
        if answer_key(option) == answer_key(answer):
            return option
    raise QuestionInvalid("answer", f"{answer[:60]!r} is not among the options")


def answer_key(answer: str) -> str:
    """The same for answers that differ in nothing but case, spaces or a final full stop."""
    return " ".join(answer.casefold().split()).rstrip(".")


def question_digest(question: str) -> str:
    """sha256 in hex; '' for no question."""
    return hashlib.sha256(question.encode()).hexdigest() if question else ""


def _normalised(text: str, part: str, limit: int) -> str:
    clean = unicodedata.normalize("NFC", text).strip()
    kinds = {unicodedata.category(character) for character in clean if character not in "\n\r\t"}
    if kinds & _UNSTORABLE:
        raise QuestionInvalid(part, "has control characters or broken text in it")
    if kinds <= _BLANK:
        raise QuestionInvalid(part, "is empty")
    if len(clean) > limit:
        raise QuestionInvalid(part, f"has {len(clean)} characters, at most {limit} are allowed")
    return clean
