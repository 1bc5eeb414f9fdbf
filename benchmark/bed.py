"""What the runs of a study share: photos as pixels, text features, what the base encoder answers.

Photos are read once a process. Which of them train is drawn by seed; which are asked never changes.

Legend: N photos, V labels, S image side, E embedding width.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.datasets.photos import DataSet, Photo
from benchmark.eyes import Eyes
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder
from encoder.prompts import Prompt, prompt_features

Item = TypeVar("Item")
TEXTS_KEPT = 10_000
"""Labels whose features are kept."""
Drawn = Mapping[tuple[int, int | None], list[Photo]]
"""Photos by label and update; None: of no update in particular."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Photos to be asked about: pixels uint8 [N, 3, S, S], targets long [N], texts fp32 [V, E] as
    the base encoder reads the V `prompts`."""

    name: str
    names: tuple[str, ...]
    pixels: Tensor
    targets: Tensor
    texts: Tensor
    prompts: tuple[Prompt, ...]

    @cached_property
    def digest(self) -> str:
        """Names the photos, their labels and what these are called; not the texts' features, which
        another machine rounds otherwise."""
        told = hashlib.sha256(json.dumps(self.prompts).encode())
        for each in (self.targets, self.pixels):
            told.update(each.numpy().tobytes())
        return told.hexdigest()[:16]

    @cached_property
    def pictures(self) -> str:
        """Names the photos alone: their names may stand in other sets for other pictures."""
        return hashlib.sha256(self.pixels.numpy().tobytes()).hexdigest()

    def answers(self, features: Tensor, texts: Tensor) -> Tensor:
        """long [N], from unit features of photos [N, E] and labels [V, E]."""
        return (features @ texts.T).argmax(dim=1)

    def apart_from(self, pictures: Tensor) -> list[int]:
        """Rows whose photo is none of these, uint8 [K, 3, S, S]."""
        known = {each.numpy().tobytes() for each in pictures}
        return [row for row, each in enumerate(self.pixels) if each.numpy().tobytes() not in known]

    def at(self, rows: Sequence[int]) -> Sheet:
        """Some of them."""
        names = tuple(self.names[row] for row in rows)
        chosen = torch.tensor(list(rows), dtype=torch.long)
        pixels, targets = self.pixels[chosen], self.targets[chosen]
        return replace(self, names=names, pixels=pixels, targets=targets)


@dataclass(frozen=True)
class Lesson:
    """What one update teaches: pixels uint8 [N, 3, S, S], targets long [N]; `labels` are its
    classes."""

    labels: tuple[int, ...]
    pixels: Tensor
    targets: Tensor

    def __add__(self, other: Lesson) -> Lesson:
        return Lesson(
            tuple(dict.fromkeys(self.labels + other.labels)),
            torch.cat([self.pixels, other.pixels]),
            torch.cat([self.targets, other.targets]),
        )


class Bed:
    """A data set and control sets before one base encoder."""

    def __init__(
        self,
        base: Encoder,
        data: DataSet,
        controls: Mapping[str, DataSet],
        *,
        cache: TextFeatureCache | None = None,
        precision: str = "bf16",
    ) -> None:
        """`precision` in which photos are asked, as of `Eyes`."""
        self.base, self.data = base, data
        self._precision = precision
        self._cache = cache or TextFeatureCache(TEXTS_KEPT)
        self.target = self._sheet(data)
        self.controls = {name: self._sheet(each, name) for name, each in controls.items()}
        self.before = self.ask(base, [self.target, *self.controls.values()])
        """The base encoder's answers, long [N] a sheet, by the sheet's name."""

    def ask(self, encoder: Encoder, sheets: Sequence[Sheet]) -> dict[str, Tensor]:
        """Answers by the sheet's name; photos that stand in several are embedded once."""
        eyes = Eyes(encoder, precision=self._precision)
        features: dict[str, Tensor] = {}
        answers = {}
        for sheet in sheets:
            if sheet.pictures not in features:
                features[sheet.pictures] = eyes.embed(sheet.pixels)
            texts = self.texts_of(encoder, sheet)
            answers[sheet.name] = sheet.answers(features[sheet.pictures], texts)
        return answers

    def texts_of(self, encoder: Encoder, sheet: Sheet) -> Tensor:
        """fp32 [V, E] as this encoder reads the sheet's labels."""
        if encoder.text_digest == self.base.text_digest:
            return sheet.texts
        return prompt_features(encoder, sheet.prompts, self._cache)

    @cached_property
    def taught(self) -> str:
        """Names the photos that draws are made from: names, labels, groups and updates."""
        photos = [(each.name, each.label, each.group, each.update) for each in self.data.train]
        told = json.dumps([photos, self.data.updates])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def probe(self, each: int) -> Sheet:
        """The first `each` test photos of every class in an order drawn once."""
        rows: list[int] = []
        for label in range(len(self.data.labels)):
            mine = [row for row, photo in enumerate(self.data.test) if photo.label == label]
            rows += sorted(random.Random(label).sample(mine, min(each, len(mine))))
        return self.target.at(rows)

    def lessons(self, *, updates: int, shots: int, seed: int) -> list[Lesson]:
        """What each update teaches; `shots` photos a class drawn by seed, 0: all there are."""
        drawn = self._drawn(shots, seed, apart=updates == len(self.data.updates))
        parts = parts_of(self.data, updates)
        return [self._lesson(part, drawn, number) for number, part in enumerate(parts)]

    def _drawn(self, shots: int, seed: int, *, apart: bool) -> Drawn:
        """Photos by label and by the update that they belong to, which counts where it is kept
        `apart`."""
        rng = random.Random(seed)
        pools: dict[tuple[int, int | None], list[Photo]] = defaultdict(list)
        for photo in self.data.train:
            pools[photo.label, photo.update if apart else None].append(photo)
        order = sorted(pools, key=lambda pool: (pool[0], -1 if pool[1] is None else pool[1]))
        return {
            pool: rng.sample(pools[pool], min(shots or len(pools[pool]), len(pools[pool])))
            for pool in order
        }

    def _lesson(self, part: Sequence[Visit], drawn: Drawn, update: int) -> Lesson:
        photos: list[Photo] = []
        for visit in part:
            mine = drawn.get((visit.label, None), []) + drawn.get((visit.label, update), [])
            photos += visit.of(mine)
        targets = torch.tensor([photo.label for photo in photos], dtype=torch.long)
        return Lesson(tuple(v.label for v in part), pixels_of(self.base, photos), targets)

    def _sheet(self, data: DataSet, name: str = "target") -> Sheet:
        prompts = tuple((label, tuple(data.templates)) for label in data.labels)
        texts = prompt_features(self.base, prompts, self._cache)
        names = tuple(photo.name for photo in data.test)
        targets = torch.tensor([photo.label for photo in data.test], dtype=torch.long)
        return Sheet(name, names, pixels_of(self.base, data.test), targets, texts, prompts)


@dataclass(frozen=True)
class Visit:
    """A class in an update: which part of its photos, of how many."""

    label: int
    turn: int
    turns: int

    def of(self, photos: Sequence[Item]) -> Sequence[Item]:
        """This part of them."""
        first, end = (len(photos) * turn // self.turns for turn in (self.turn, self.turn + 1))
        return photos[first:end]


def parts_of(data: DataSet, updates: int) -> list[list[Visit]]:
    """The data's own updates where there are as many; else its classes in the same order (that of
    its labels where it has none) cut anew, evenly. More updates than classes: a class comes again
    with photos of its own until there are enough."""
    if updates == len(data.updates):
        return [[Visit(label, 0, 1) for label in group] for group in data.updates]
    groups = data.updates or (tuple(range(len(data.labels))),)
    order = list(dict.fromkeys(label for group in groups for label in group))
    rounds = max(1, -(-updates // len(order)))
    count = max(updates, len(order))
    turns = {label: len(range(place, count, len(order))) for place, label in enumerate(order)}
    visits = [
        Visit(label, turn, turns[label])
        for turn in range(rounds)
        for label in order
        if turn < turns[label]
    ]
    edges = [len(visits) * number // updates for number in range(updates + 1)]
    return [visits[first:end] for first, end in pairwise(edges)]


def pixels_of(base: Encoder, photos: Sequence[Photo]) -> Tensor:
    """uint8 [N, 3, S, S]. Raises PhotoUnreadable."""
    if not photos:
        side = base.preprocessing.image_size
        return torch.empty(0, 3, side, side, dtype=torch.uint8)
    return torch.stack([base.preprocessing.to_pixels(photo.open()) for photo in photos])
