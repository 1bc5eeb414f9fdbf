"""Which earlier corrections an edit is fitted on again, and on top of what."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from editing.training_config import TrainingConfig


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


@dataclass(frozen=True)
class Replay:
    """Which earlier corrections an edit is fitted on again, as positions, and on top of what."""

    positions: tuple[int, ...]
    stacked: bool


def plan_replay(
    earlier_labels: Sequence[Hashable],
    config: TrainingConfig,
    *,
    new: int,
    seed: int,
    must_refit: bool = False,
) -> Replay:
    """Refit from the base on everything while it fits into `config.max_images`.

    Beyond that: all `new` corrections and a class-balanced draw of the earlier ones, on top of the
    live version; with `replay="stack"` only the new ones. `must_refit` starts from the base on all
    of them, however many: the live version knows something that must be forgotten, and what is
    not fitted again would be forgotten with it.
    """
    everything = tuple(range(len(earlier_labels)))
    fits = new + len(everything) <= config.max_images and config.replay == "refit"
    if must_refit or fits:
        return Replay(everything, stacked=False)
    room = 0 if config.replay == "stack" else max(config.max_images - new, 0)
    return Replay(tuple(draw_replay(earlier_labels, room=room, seed=seed)), stacked=True)
