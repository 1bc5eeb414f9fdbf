"""What a question about an image may be.

Whatever is asked must fit into the decoder's context in the end; these limits are what anybody may
count before asking, and keep a request from occupying the decoder for long.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import FieldInvalid
from registry.errors import LabelInvalid
from registry.labels import normalise_label

QUESTION_CHARACTERS = 4_000
OPTIONS_LIMIT = 64


def checked_question(text: str | None) -> str:
    """The question without outer white space. Raises `FieldInvalid`."""
    question = (text or "").strip()
    if not question:
        raise FieldInvalid("question", "a question is needed" if text is None else "it is empty")
    if len(question) > QUESTION_CHARACTERS:
        raise FieldInvalid("question", f"{len(question)} characters; {QUESTION_CHARACTERS} at most")
    return question


def checked_options(texts: Sequence[str]) -> tuple[str, ...]:
    """The options, each as a label is normalised, in order; none is fine, one is not.

    Raises `FieldInvalid`.
    """
    if len(texts) == 1:
        raise FieldInvalid("option", "one option is no choice; give at least two, or none")
    if len(texts) > OPTIONS_LIMIT:
        raise FieldInvalid("option", f"{len(texts)} options; {OPTIONS_LIMIT} at most")
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        option = _normalised(text, place)
        if option in places:
            raise FieldInvalid(
                f"option[{place}]", f"{option!r} is the same as option[{places[option]}]"
            )
        places[option] = place
    return tuple(places)


def _normalised(text: str, place: int) -> str:
    try:
        return normalise_label(text)
    except LabelInvalid as refusal:
        raise FieldInvalid(f"option[{place}]", f"it {refusal.reason}") from refusal
