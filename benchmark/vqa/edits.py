"""Edits of the encoder alone, by any method, in the protocols that the study compares.

*continual*: five updates of disjoint classes, one after another, each on top of the one before and
without replay (the paper's). *refit*: one fit from the base on all of them, as the service does it,
where earlier corrections are fitted again.

Legend: N photos, V labels, G guard photos, E embedding width, S image side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.vqa.lab_sets import Update
from editing.fewshot import EditTask
from editing.methods import MethodConfig, fit
from encoder.clip import Encoder


@dataclass(frozen=True)
class Guard:
    """Photos whose features should stay: pixels uint8 [G, 3, S, S], features fp32 [G, E]."""

    pixels: Tensor
    features: Tensor

    @classmethod
    def of(cls, base: Encoder, pixels: Tensor) -> Guard:
        return cls(pixels, base.embed_images(pixels).cpu())


@dataclass(frozen=True)
class Tuned:
    """An edited encoder, and what it cost: CPU seconds of fitting (of all threads: what else the
    machine did does not count), optimizer steps, numbers trained in one update at most."""

    encoder: Encoder
    cpu_seconds: float
    steps: int
    parameters: int


Report = Callable[[int, int, float], None]
"""Told after each update: its number from 1, steps, last loss."""


def continual(
    base: Encoder,
    texts: Tensor,
    updates: Sequence[Update],
    config: MethodConfig,
    *,
    seed: int,
    guard: Guard | None = None,
    report: Report | None = None,
) -> Tuned:
    """Update after update on top of each other; texts fp32 [V, E]. Raises EditError.

    An image's negatives are the labels of its own update.
    """
    live, began, steps, parameters = base, time.process_time(), 0, 0
    for number, update in enumerate(updates, start=1):
        edit = fit(live, _task(texts, update, guard), config, seed=seed)
        live = live.merged_deltas(edit.deltas, label=f"update {number}, seed {seed}")
        steps += edit.history.steps
        parameters = max(parameters, edit.parameters)
        if report is not None:
            report(number, edit.history.steps, edit.history.losses[-1])
    return Tuned(live, time.process_time() - began, steps, parameters)


def refit(
    base: Encoder,
    texts: Tensor,
    updates: Sequence[Update],
    config: MethodConfig,
    *,
    seed: int,
    guard: Guard | None = None,
    report: Report | None = None,
) -> Tuned:
    """One fit on everything; texts fp32 [V, E]. Raises EditError."""
    together = Update(
        torch.cat([update.pixels for update in updates]),
        torch.cat([update.targets for update in updates]),
    )
    return continual(base, texts, [together], config, seed=seed, guard=guard, report=report)


def _task(texts: Tensor, update: Update, guard: Guard | None) -> EditTask:
    count = len(update.targets)
    own = torch.zeros(len(texts), dtype=torch.bool)
    own[update.targets] = True
    return EditTask(
        pixels=update.pixels,
        targets=update.targets,
        allowed=own.expand(count, -1),
        text_features=texts,
        new=torch.ones(count, dtype=torch.bool),
        guard_pixels=update.pixels[:0] if guard is None else guard.pixels,
        guard_features=None if guard is None else guard.features,
    )
