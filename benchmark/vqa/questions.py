"""Questions about images with options to choose from, and classification sets turned into such.

Source: arXiv 2407.16526 asks classification sets as questions with five options and takes the
option of highest likelihood. Distractors and the order of options depend on the seed and on the
image's key: neither on the method that is asked, nor on which other images are asked about.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

OPTIONS = 5
"""Options of a question made from a classification set, the right one included (the paper's)."""


@dataclass(frozen=True)
class ChoiceQuestion:
    """One image, one question, options of which exactly one is right."""

    key: str
    """Identity within its set."""
    image: Path | bytes
    question: str
    options: tuple[str, ...]
    answer: int
    """Position of the right option."""

    def image_bytes(self) -> bytes:
        """The image file's contents."""
        return self.image if isinstance(self.image, bytes) else self.image.read_bytes()


@dataclass(frozen=True)
class LabelledImage:
    """An example of a classification set."""

    key: str
    image: Path | bytes
    label: str


class TooFewLabels(Exception):
    """A classification set has not enough different labels for a question of five options."""

    def __init__(self, found: int, wanted: int) -> None:
        self.found, self.wanted = found, wanted
        super().__init__(f"{found} different labels make no question of {wanted} options")


class UnknownLabel(Exception):
    """An image has a label that is not among the set's labels."""

    def __init__(self, key: str, label: str) -> None:
        self.key, self.label = key, label
        super().__init__(f"image {key} is labelled {label!r}, which is not among the labels")


def choice_questions(
    examples: Iterable[LabelledImage],
    labels: Sequence[str],
    *,
    question: str,
    seed: int,
    options: int = OPTIONS,
) -> list[ChoiceQuestion]:
    """Ask `question` about every example, with its label among `options` different labels.

    `question` may contain `{options}`, which the options take, joined by commas and "or".
    Raises TooFewLabels, UnknownLabel.
    """
    distinct = list(dict.fromkeys(labels))  # ImageNet's names hold two names twice
    if len(distinct) < options:
        raise TooFewLabels(len(distinct), options)
    asked = []
    for each in examples:
        if each.label not in distinct:
            raise UnknownLabel(each.key, each.label)
        offered = offer(each.label, distinct, key=each.key, seed=seed, options=options)
        text = question.replace("{options}", listed(offered))
        answer = offered.index(each.label)
        asked.append(ChoiceQuestion(each.key, each.image, text, offered, answer))
    return asked


def offer(
    right: str, labels: Sequence[str], *, key: str, seed: int, options: int
) -> tuple[str, ...]:
    """`right` and distractors among different `labels`, in an order drawn from seed and key."""
    draw = random.Random(f"{seed}:{key}")  # text seeds are hashed by sha512: the same everywhere
    others = draw.sample([label for label in labels if label != right], options - 1)
    offered = [right, *others]
    draw.shuffle(offered)
    return tuple(offered)


def listed(options: Sequence[str]) -> str:
    """`a, b or c`."""
    *first, last = options
    return f"{', '.join(first)} or {last}" if first else last


def subsample(examples: Sequence[LabelledImage], *, each: int, seed: int) -> list[LabelledImage]:
    """At most `each` examples of every label, drawn by seed, in their former order."""
    chosen: set[str] = set()
    for label in sorted({example.label for example in examples}):
        keys = sorted(example.key for example in examples if example.label == label)
        chosen.update(random.Random(f"{seed}:{label}").sample(keys, min(each, len(keys))))
    return [example for example in examples if example.key in chosen]
