"""The caption that the right answer to a question implies: what the encoder learns to call it.

question                    answer    caption                       asked as
What is this?               a fox     fox                           a label, in prompt templates
Is this a fox?              yes       fox                           a label, in prompt templates
Is this a fox?              no        none: it may be anything      -
any other                   red       What colour is it? red        a prompt of its own
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass

from registry.errors import LabelInvalid
from registry.labels import normalise_label
from registry.questions import answer_key

_SHOWN = r"(?: (?:shown|seen|depicted|pictured))?"
_PLACE = r"(?:(?: (?:here|in|on))(?: (?:this|the) (?:image|picture|photo|photograph))?)?"
_KIND = r"(?: (?:kind|type|sort) of)?(?: (?:object|thing|item|animal|sign|traffic sign))?"
_NAMING = re.compile(
    rf"(?:what|which){_KIND}(?:'s|’s| is| are)"
    rf"(?: (?:this|that|it|these|those|there|the (?:object|thing|sign)))?{_SHOWN}{_PLACE}\s*\?*",
    re.IGNORECASE,
)
_CHECKING = re.compile(
    rf"(?:is|are) (?:this|that|it|these|those|there)(?: an?| the| any| some)? (?P<thing>.+?)"
    rf"{_PLACE}\s*\?*",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?:(?:an?|the|some)\s+)?(?P<thing>\S.*?)\s*\.?", re.IGNORECASE | re.DOTALL)
_YES, _NO = "yes", "no"
_OTHER = {_YES: _NO, _NO: _YES}


@dataclass(frozen=True)
class Caption:
    """`wrong` is what the wrong answer would have implied in the same way; `own_prompt`: it is a
    whole sentence, to be asked as it is and not inside a prompt template."""

    label: str
    wrong: str | None
    own_prompt: bool


def implied_caption(
    question: str, answer: str, wrong_answer: str | None, *, labels: Container[str] = ()
) -> Caption | None:
    """None when the answer does not say what the image shows, and when the caption would be longer
    than a label may be. `labels`: names that keep their articles."""
    if _NAMING.fullmatch(question):
        wrong = None if wrong_answer is None else _thing(wrong_answer, labels)
        return _caption(_thing(answer, labels), wrong, own_prompt=False)
    checking = _CHECKING.fullmatch(question)
    if checking and answer_key(answer) in _OTHER:
        if answer_key(answer) == _NO:
            return None
        return _caption(checking["thing"], None, own_prompt=False)
    wrong = wrong_answer or _OTHER.get(answer_key(answer))
    return _caption(
        f"{question} {answer}", f"{question} {wrong}" if wrong else None, own_prompt=True
    )


def _thing(answer: str, labels: Container[str]) -> str:
    # Prompt templates bring an article, and "fox" must not stand against "a fox".
    named = _NAMED.fullmatch(answer)
    return answer if answer in labels or named is None else named["thing"]


def _caption(text: str, wrong: str | None, *, own_prompt: bool) -> Caption | None:
    label = _label(text)
    if label is None:
        return None
    return Caption(label, None if wrong is None else _label(wrong), own_prompt)


def _label(text: str) -> str | None:
    try:
        return normalise_label(" ".join(text.split()))
    except LabelInvalid:
        return None
