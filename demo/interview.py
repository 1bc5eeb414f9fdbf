"""What the vision-language model says about the same pictures, where the service has one.

It reads the encoder that is served, so the edit that changes a label changes what it says, and the
rollback takes both back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from client import EmendClient, EmendError
from demo.photos import Material

ABSENT = frozenset({"urn:emend:problem:vlm-absent", "urn:emend:problem:vlm-unusable"})
LABELS_AT_MOST = 10  # options of a question
ASKED_A_LABEL = 3  # held-out photos
LOOKED_AT = 20  # mislabelled photos, in search of one that it misnames too


@dataclass(frozen=True)
class Said:
    """Its own words about one photo, and percent of held-out photos that it names rightly."""

    words: str
    right: float


class Interview:
    """One question, put to the live version again and again."""

    def __init__(self, service: EmendClient, material: Material) -> None:
        self.service = service
        self.question = material.question
        self.photos = material.corrections
        self.options = list(dict.fromkeys(self.photos.labels))[:LABELS_AT_MOST]
        self.asked: list[tuple[bytes, str]] = []
        taken: Counter[str] = Counter()
        for image, label in zip(material.held_out.images, material.held_out.labels, strict=True):
            if label in self.options and taken[label] < ASKED_A_LABEL:
                self.asked.append((image, label))
                taken[label] += 1

    @property
    def possible(self) -> bool:
        """Is there somebody to ask?"""
        try:
            self.words(0)
        except EmendError as refusal:
            if refusal.problem.get("type") in ABSENT:
                return False
            raise
        return True

    def words(self, number: int) -> str:
        """The free answer about one of the photos to correct."""
        return str(self.service.ask(self.photos.images[number], self.question)["answer"])

    def say(self, number: int) -> Said:
        """Ask the live version about that photo and about held-out ones, with options."""
        right = sum(
            self.service.ask(image, self.question, options=self.options)["answer"] == label
            for image, label in self.asked
        )
        return Said(self.words(number), 100 * right / len(self.asked))

    def find_mistake(self, numbers: Sequence[int]) -> int | None:
        """The first of these photos that it misnames."""
        for number in numbers[:LOOKED_AT]:
            if self.words(number) != self.photos.labels[number]:
                return number
        return None

    def correct(self, number: int, words: str) -> list[str]:
        """Send what should have been said about a photo, given what was said. Returns the ids of
        the edit jobs that took it."""
        return self.service.correct(
            [self.photos.images[number]],
            question=self.question,
            answer=self.photos.labels[number],
            wrong_answer=words,
        )
