"""Questions about a picture and their answers, made from its label.

Every picture gets the plain question, a description, as many questions to be answered yes as no,
and sometimes a choice among five, its kind, or a word to repeat. The same seed gives the same
questions.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from recipes.small_vlm.kinds import ANIMALS, DIGIT, SIGN, WITHOUT_ARTICLE, kinds

PLAIN = "What is this?"
OPTIONS = 5
_HARD = 0.4
"""share of the wrong names that are of the picture's own kind"""
_OPEN = (
    PLAIN,
    PLAIN,
    PLAIN,
    "What is in the picture?",
    "What is in the image?",
    "What does the picture show?",
    "What do you see?",
    "What can be seen here?",
    "Which object is this?",
    "Name the object in the photo.",
)
_OPEN_BY_KIND = {
    DIGIT: ("What digit is this?", "Which digit is this?", "What number is this?"),
    SIGN: (
        "What sign is this?",
        "What traffic sign is this?",
        "Which traffic sign is this?",
        "What does this sign mean?",
        "What does the sign say?",
    ),
}
_ANIMAL = ("What animal is this?", "Which animal is in the picture?")
_DESCRIBE = (
    "Describe the picture.",
    "Describe the image.",
    "Describe this photo.",
    "Caption this.",
)
_YES_NO = (
    "Is this {}?",
    "Is this {}?",
    "Is this a photo of {}?",
    "Is there {} in the picture?",
    "Does the picture show {}?",
    "Do you see {}?",
)
_KIND = ("What kind of thing is this?", "What type of thing is it?")
_CHOICE = (
    "Which of these is it: {}?",
    "What is this? Options: {}.",
    "Is this {}?",
    "What is this: {}?",
)
_REPEAT = ("Repeat: {}", "Say {}.", "Repeat the word: {}")


@dataclass(frozen=True)
class Asked:
    """One question and the answer expected."""

    question: str
    answer: str


@dataclass(frozen=True)
class Questions:
    """Makes questions about things that have one of `names`."""

    names: tuple[str, ...]
    signs: frozenset[str]
    words: tuple[str, ...]
    """any words, to be repeated so that the decoder can write them"""

    @cached_property
    def kind(self) -> Mapping[str, str]:
        """The kind of each name."""
        return kinds(list(self.names), self.signs)

    @cached_property
    def _by_kind(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for name in self.names:
            groups.setdefault(self.kind[name], []).append(name)
        return groups

    def about(self, label: str, draw: random.Random) -> list[Asked]:
        """Training questions about one picture; half of the yes/no questions are answered yes."""
        kind = self.kind[label]
        asked = [self.open(label, draw), self.open(label, draw, plain=True)]
        asked.append(Asked(draw.choice(_DESCRIBE), self.description(label, draw)))
        for _ in range(2):
            asked += [self.yes_no(label, draw, yes=True), self.yes_no(label, draw, yes=False)]
        if draw.random() < 0.5:
            asked.append(self.choice(label, draw))
        if draw.random() < 0.25:
            asked.append(Asked(draw.choice(_KIND), kind))
        if draw.random() < 0.2:
            word = draw.choice(self.words)
            asked.append(Asked(draw.choice(_REPEAT).format(word), word))
        return asked

    def open(self, label: str, draw: random.Random, *, plain: bool = False) -> Asked:
        """What is this? With `plain`, in a form that fits any picture."""
        kind = self.kind[label]
        special = _OPEN_BY_KIND.get(kind, _ANIMAL if kind in ANIMALS else _OPEN)
        return Asked(draw.choice(_OPEN if plain else special), label)

    def description(self, label: str, draw: random.Random) -> str:
        """A sentence, sometimes with the kind."""
        kind = self.kind[label]
        told = "" if kind == SIGN or draw.random() < 0.6 else f", a {kind}"
        return f"A photo of {self.phrase(label)}{told}."

    def yes_no(self, label: str, draw: random.Random, *, yes: bool) -> Asked:
        """Is this a ...? About the label itself, or about another name or kind."""
        if draw.random() < 0.15:
            subject = self._kind_subject(label, draw, yes=yes)
        else:
            subject = self.phrase(label if yes else self.wrong_name(label, draw))
        return Asked(draw.choice(_YES_NO).format(subject), "yes" if yes else "no")

    def _kind_subject(self, label: str, draw: random.Random, *, yes: bool) -> str:
        kind = self.kind[label]
        if kind in ANIMALS and draw.random() < 0.5:
            kind = "animal"
        if not yes:
            mine = {self.kind[label], "animal"} if self.kind[label] in ANIMALS else {kind}
            kind = draw.choice([other for other in [*self._by_kind, "animal"] if other not in mine])
        return _with_article(kind)

    def choice(self, label: str, draw: random.Random) -> Asked:
        """The question that lists its options."""
        listed = ", ".join(self.options(label, draw))
        return Asked(draw.choice(_CHOICE).format(listed), label)

    def wrong_name(self, label: str, draw: random.Random) -> str:
        """Another name: often of the same kind, never the label."""
        near = [name for name in self._by_kind[self.kind[label]] if name != label]
        if near and draw.random() < _HARD:
            return draw.choice(near)
        return draw.choice([name for name in self.names if name != label])

    def options(
        self, label: str, draw: random.Random, among: Sequence[str] | None = None
    ) -> list[str]:
        """The label and four other names of `among` (all), in random order."""
        others = [name for name in (among or self.names) if name != label]
        return draw.sample([label, *draw.sample(others, OPTIONS - 1)], OPTIONS)

    def phrase(self, label: str) -> str:
        """The name inside a sentence."""
        kind = self.kind[label]
        if kind == DIGIT:
            return f"the number {label}"
        if kind == SIGN:
            return f'a "{label}" sign'
        return _with_article(label)


def _with_article(name: str) -> str:
    if name in WITHOUT_ARTICLE:
        return name
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"
