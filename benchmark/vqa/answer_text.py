"""The normalisation of answers that the VQA challenge scores with, and VizWiz after it.

Source: the rules published with the VQA evaluation (arXiv 1505.00468): lower case, punctuation,
number words to digits, no articles, contractions with their apostrophes.

Surprises, kept because scores are compared with published ones: punctuation beside a space anywhere
in the answer is dropped and otherwise becomes a space, sign by sign; one comma between digits makes
all punctuation of the answer be dropped; "none" becomes 0; a full stop is dropped unless a digit
follows; `let's`, `she's` and the like stay as they are, and `somebody'd` loses its apostrophe.
"""

from __future__ import annotations

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_FULL_STOP = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
# A word with one apostrophe is recognised without it, one with several without one of them.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't shan't she'd've should've shouldn't
shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas 'ow's'at wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""


def _contractions() -> dict[str, str]:
    found = {"somebody'd": "somebodyd"}
    for right in _CONTRACTED.split():
        for place, letter in enumerate(right):
            if letter == "'":
                found[right[:place] + right[place + 1 :]] = right
    return found


_CONTRACTIONS = _contractions()


def normalise_answer(answer: str) -> str:
    """The answer as it is compared with others."""
    flat = answer.replace("\n", " ").replace("\t", " ").strip()
    words = _without_punctuation(flat).lower().split()
    digits = (_NUMBERS.get(word, word) for word in words)
    return " ".join(_CONTRACTIONS.get(word, word) for word in digits if word not in _ARTICLES)


def _without_punctuation(answer: str) -> str:
    in_number = _COMMA_IN_NUMBER.search(answer) is not None
    cleaned = answer
    for sign in _PUNCTUATION:
        beside_space = f"{sign} " in answer or f" {sign}" in answer
        cleaned = cleaned.replace(sign, "" if beside_space or in_number else " ")
    return _FULL_STOP.sub("", cleaned)
