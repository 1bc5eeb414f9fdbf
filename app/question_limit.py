"""What a question about an image may be.

Whatever is asked must fit into the decoder's context in the end; these limits are what anybody may
count before asking, and keep a request from occupying the decoder for long.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import FieldInvalid
from registry.errors import LabelInvalid, QuestionInvalid
from registry.labels import normalise_label
from registry.questions import MAX_OPTIONS, normalise_question


def checked_question(text: str | None) -> str:
    """The question as a correction or a control set keeps it. Raises `FieldInvalid`."""
    if text is None:
        raise FieldInvalid("question", "a question is needed")
    try:
        return normalise_question(text)
    except QuestionInvalid as refusal:
        raise FieldInvalid("question", f"it {refusal.reason}") from refusal


def checked_options(texts: Sequence[str]) -> tuple[str, ...]:
    """The options, each as a label is normalised, in order; none is fine, one is not.

    Raises `FieldInvalid`.
    """
    if len(texts) == 1:
        raise FieldInvalid("option", "one option is no choice; give at least two, or none")
    if len(texts) > MAX_OPTIONS:
        raise FieldInvalid("option", f"{len(texts)} options; {MAX_OPTIONS} at most")
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
