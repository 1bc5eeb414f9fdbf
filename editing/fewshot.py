"""What an edit learns from: its images, their labels, and how batches are drawn.

Legend: N corrections, V labels of the vocabulary, G guard images, S image side, E embedding width.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.errors import InvalidTask, NoImages


@dataclass(frozen=True)
class EditTask:
    """All that one edit job learns from.

    pixels          uint8 [N, 3, S, S]
    targets         long [N], the right label's row of `text_features`
    allowed         bool [N, V], which labels each image could have been given; its own included
    text_features   fp32 [V, E], unit rows, frozen
    new             bool [N], True for this job's corrections, False for earlier ones
    guard_pixels    uint8 [G, 3, S, S], images whose features should stay as they are; G may be 0
    guard_features  fp32 [G, E], the *base* encoder's unit features of them. None: the features of
                    the encoder that is edited, which is the same thing only on the base itself
    guard_texts     fp32 [C, E] each, unit rows: sets of labels among which the answers to guard
                    images should stay as they are, C of its own for each; may be none
    """

    pixels: Tensor
    targets: Tensor
    allowed: Tensor
    text_features: Tensor
    new: Tensor
    guard_pixels: Tensor
    guard_features: Tensor | None = None
    guard_texts: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        """Raises NoImages, InvalidTask."""
        count, labels = self.targets.numel(), self.text_features.shape[0]
        if count == 0:
            raise NoImages
        if self.pixels.dtype != torch.uint8 or self.guard_pixels.dtype != torch.uint8:
            raise InvalidTask("images must be uint8 pixels")
        if self.pixels.shape[0] != count or self.new.shape != (count,):
            raise InvalidTask(f"{self.pixels.shape[0]} images for {count} targets")
        if self.allowed.shape != (count, labels):
            raise InvalidTask(f"allowed is {tuple(self.allowed.shape)}, not {(count, labels)}")
        if int(self.targets.min()) < 0 or int(self.targets.max()) >= labels:
            raise InvalidTask(f"a target lies outside the {labels} labels")
        if not bool(self.allowed.gather(1, self.targets[:, None]).all()):
            raise InvalidTask("a correction's own label is not among its allowed labels")
        features = self.guard_features
        if features is not None and features.shape[0] != self.guard_pixels.shape[0]:
            raise InvalidTask(f"{features.shape[0]} features for the guard images")
        width = self.text_features.shape[1]
        if any(texts.dim() != 2 or texts.shape[1] != width for texts in self.guard_texts):
            raise InvalidTask(f"text features of guard images are not {width} wide")

    def __len__(self) -> int:
        return self.targets.numel()


def draw_replay(earlier_labels: Sequence[Hashable], *, room: int, seed: int) -> list[int]:
    """A class-balanced draw of at most `room` earlier corrections, as ascending positions.

    Classes take turns in random order, each giving one of its images at a time, until the room
    is full, so that class sizes differ by more than one only where a class has run out.
    """
    rng = random.Random(seed)
    members: dict[Hashable, list[int]] = {}
    for position, label in enumerate(earlier_labels):
        members.setdefault(label, []).append(position)
    piles = list(members.values())
    for pile in piles:
        rng.shuffle(pile)
    drawn: list[int] = []
    while len(drawn) < room and (piles := [pile for pile in piles if pile]):
        rng.shuffle(piles)
        drawn += [pile.pop() for pile in piles[: room - len(drawn)]]
    return sorted(drawn)


def choose_guard(sizes: Sequence[int], *, count: int, seed: int) -> list[list[int]]:
    """Which images of each control set train the guard term: `count` in all, spread evenly.

    At most half of each set, so that the gate always keeps images which training never saw.
    Returns ascending positions, one list a set.
    """
    rng = random.Random(seed)
    limits = [size // 2 for size in sizes]
    takes = [0] * len(sizes)
    while sum(takes) < count and takes != limits:
        for index, limit in enumerate(limits):
            if takes[index] < limit and sum(takes) < count:
                takes[index] += 1
    pairs = zip(sizes, takes, strict=True)
    return [sorted(rng.sample(range(size), take)) for size, take in pairs]


class Deck:
    """Deals numbers in random order, reshuffling once all are dealt; never one twice in a row."""

    def __init__(self, items: Tensor, generator: torch.Generator) -> None:
        """items long [K], K >= 1."""
        self._items = items
        self._generator = generator
        self._left: list[int] = []
        self._last: int | None = None

    def deal(self) -> int:
        if not self._left:
            order = torch.randperm(self._items.numel(), generator=self._generator)
            self._left = self._items[order].tolist()
            if self._left[-1] == self._last:
                self._left.reverse()
        self._last = self._left.pop()
        return self._last


class ClassBalancedBatches:
    """Batches in which every class appears equally often, however many images it has.

    A batch of two or more holds at least two classes where the task has them.
    """

    def __init__(self, targets: Tensor, batch_size: int, generator: torch.Generator) -> None:
        """targets [N]; a batch has `batch_size` images, or N when there are fewer."""
        classes = torch.unique(targets)
        self._size = min(batch_size, targets.numel())
        self._turns = Deck(torch.arange(classes.numel()), generator)
        self._decks = [Deck((targets == label).nonzero()[:, 0], generator) for label in classes]

    def draw(self) -> Tensor:
        """Positions into the task's images, long [batch]."""
        return torch.tensor([self._decks[self._turns.deal()].deal() for _ in range(self._size)])
