"""What an edit learns from: its images, their labels, and how batches are drawn.

Legend: N corrections, V labels of the vocabulary, G guard images, S image side, E embedding width.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.answer_task import AnswerTask
from editing.errors import InvalidTask, NoImages
from encoder.prompts import Prompt


@dataclass(frozen=True)
class EditTask:
    """All that one edit job learns from.

    pixels          uint8 [N, 3, S, S]
    targets         long [N], the right label's row of `text_features`
    allowed         bool [N, V], which labels each image could have been given; its own included
    text_features   fp32 [V, E], unit rows, of the encoder that is edited
    new             bool [N], True for this job's corrections, False for earlier ones
    guard_pixels    uint8 [G, 3, S, S], images whose features should stay as they are; G may be 0
    guard_features  fp32 [G, E], the *base* encoder's unit features of them. None: the features of
                    the encoder that is edited, which is the same thing only on the base itself
    answers         questions to answer rightly, beside the corrections or instead: N may then be 0
    prompts         V, what `text_features` are made from; needed where a text tower moves or moved
    """

    pixels: Tensor
    targets: Tensor
    allowed: Tensor
    text_features: Tensor
    new: Tensor
    guard_pixels: Tensor
    guard_features: Tensor | None = None
    answers: AnswerTask | None = None
    prompts: tuple[Prompt, ...] | None = None

    def __post_init__(self) -> None:
        """Raises NoImages, InvalidTask."""
        count, labels = self.targets.numel(), self.text_features.shape[0]
        if count == 0 and self.answers is None:
            raise NoImages
        if self.pixels.dtype != torch.uint8 or self.guard_pixels.dtype != torch.uint8:
            raise InvalidTask("images must be uint8 pixels")
        if self.pixels.shape[0] != count or self.new.shape != (count,):
            raise InvalidTask(f"{self.pixels.shape[0]} images for {count} targets")
        if self.allowed.shape != (count, labels):
            raise InvalidTask(f"allowed is {tuple(self.allowed.shape)}, not {(count, labels)}")
        if not bool(((self.targets >= 0) & (self.targets < labels)).all()):
            raise InvalidTask(f"a target lies outside the {labels} labels")
        if not bool(self.allowed.gather(1, self.targets[:, None]).all()):
            raise InvalidTask("a correction's own label is not among its allowed labels")
        if self.prompts is not None and len(self.prompts) != labels:
            raise InvalidTask(f"{len(self.prompts)} prompts for {labels} labels")
        features = self.guard_features
        if features is not None and features.shape[0] != self.guard_pixels.shape[0]:
            raise InvalidTask(f"{features.shape[0]} features for the guard images")

    @classmethod
    def of_answers(
        cls,
        answers: AnswerTask,
        *,
        guard_pixels: Tensor | None = None,
        guard_features: Tensor | None = None,
    ) -> EditTask:
        """Questions alone, nothing with a label."""
        none = torch.empty(0, dtype=torch.long)
        return cls(
            pixels=answers.pixels[:0],
            targets=none,
            allowed=torch.empty(0, 0, dtype=torch.bool),
            text_features=torch.empty(0, 0),
            new=none.bool(),
            guard_pixels=answers.pixels[:0] if guard_pixels is None else guard_pixels,
            guard_features=guard_features,
            answers=answers,
        )

    def __len__(self) -> int:
        """Corrections with a label."""
        return self.targets.numel()


def choose_guard(sets: Sequence[Sequence[Hashable]], *, count: int, seed: int) -> list[list[int]]:
    """Which images of each control set train the guard term: `count` in all, spread evenly.

    `sets` names the images of each set; one that stands in several is chosen in all of them or in
    none. At most half of each set is chosen, so that the gate always keeps images which training
    never saw. Returns ascending positions, one list a set.
    """
    rng = random.Random(seed)
    distinct = [list(dict.fromkeys(images)) for images in sets]
    room = [len(images) // 2 for images in distinct]
    piles = [rng.sample(images, len(images)) for images in distinct]
    holders = defaultdict(list)
    for index, images in enumerate(distinct):
        for image in images:
            holders[image].append(index)
    chosen: set[Hashable] = set()
    while any(piles) and len(chosen) < count:
        for pile in piles:
            image = _next_with_room(pile, chosen, holders, room)
            if image is not None and len(chosen) < count:
                chosen.add(image)
                for index in holders[image]:
                    room[index] -= 1
    return [[row for row, image in enumerate(images) if image in chosen] for images in sets]


def _next_with_room(
    pile: list[Hashable],
    chosen: Set[Hashable],
    holders: Mapping[Hashable, Sequence[int]],
    room: Sequence[int],
) -> Hashable | None:
    """Takes images off the pile until one is new and every set that holds it has room for it."""
    while pile:
        image = pile.pop()
        if image not in chosen and all(room[index] for index in holders[image]):
            return image
    return None


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
