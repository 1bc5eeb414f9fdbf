"""Edits of the encoder alone, by any method, and of the decoder alone, in the study's protocols.

*continual*: five updates of disjoint classes, one after another, each on top of the one before and
without replay (the paper's). *refit*: one fit from the base on all of them, as the service does it,
where earlier corrections are fitted again.

Legend: N photos, V labels, G guard photos, E embedding width, S image side.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.decoder_lora import tune_decoder
from benchmark.vqa.lab_sets import SIGN_QUESTION, Update
from editing.answer_task import AnswerTask
from editing.fewshot import EditTask
from editing.methods import LoraConfig, MethodConfig, fit
from encoder.clip import Encoder
from encoder.vlm.model import VisionLanguageModel

Teaching = Callable[[Update], EditTask]
"""What an update is fitted to."""


@dataclass(frozen=True)
class Guard:
    """Photos whose features should stay: pixels uint8 [G, 3, S, S], features fp32 [G, E]."""

    pixels: Tensor
    features: Tensor

    @classmethod
    def of(cls, base: Encoder, pixels: Tensor) -> Guard:
        return cls(pixels, base.embed_images(pixels).cpu())

    @classmethod
    def none(cls, base: Encoder) -> Guard:
        side = base.preprocessing.image_size
        return cls.of(base, torch.zeros(0, 3, side, side, dtype=torch.uint8))


def captions(texts: Tensor, guard: Guard) -> Teaching:
    """Photos belong to their labels' captions, texts fp32 [V, E]; an image's negatives are the
    labels of its own update."""

    def task(update: Update) -> EditTask:
        count = len(update.targets)
        own = torch.zeros(len(texts), dtype=torch.bool)
        own[update.targets] = True
        return EditTask(
            pixels=update.pixels,
            targets=update.targets,
            allowed=own.expand(count, -1),
            text_features=texts,
            new=torch.ones(count, dtype=torch.bool),
            guard_pixels=guard.pixels,
            guard_features=guard.features,
        )

    return task


def answers(vlm: VisionLanguageModel, labels: Sequence[str], guard: Guard, seed: int) -> Teaching:
    """What `questions` says, while the guard's photos stay."""

    def task(update: Update) -> EditTask:
        return EditTask.of_answers(
            questions(vlm, labels, update, seed),
            guard_pixels=guard.pixels,
            guard_features=guard.features,
        )

    return task


def questions(
    vlm: VisionLanguageModel, labels: Sequence[str], update: Update, seed: int
) -> AnswerTask:
    """`SIGN_QUESTION` about a photo is answered with its label rather than with another one of its
    update, drawn by seed (arXiv 2502.04098 makes the answer likely; the contrast is ours)."""
    draw = random.Random(seed)
    right = [labels[target] for target in update.targets.tolist()]
    taught = sorted(set(right))
    wrong = [draw.choice([each for each in taught if each != label]) for label in right]
    return AnswerTask(
        vlm=vlm,
        pixels=update.pixels,
        questions=(SIGN_QUESTION,) * len(right),
        right=tuple(right),
        wrong=tuple((each,) for each in wrong),
    )


@dataclass(frozen=True)
class Cost:
    """CPU seconds of fitting, of all threads; optimizer steps; numbers trained in one update at
    most."""

    cpu_seconds: float
    steps: int
    parameters: int


Report = Callable[[int, int, float], None]
"""Told after each update: its number from 1, steps, last loss."""


def continual(
    base: Encoder,
    updates: Sequence[Update],
    teach: Teaching,
    config: MethodConfig,
    *,
    seed: int,
    report: Report | None = None,
) -> tuple[Encoder, Cost]:
    """Update after update on top of each other. Raises EditError, VlmError."""
    live, began, steps, parameters = base, time.process_time(), 0, 0
    for number, update in enumerate(updates, start=1):
        edit = fit(live, teach(update), config, seed=seed)
        live = live.merged_deltas(edit.deltas, label=f"update {number}, seed {seed}")
        steps += edit.history.steps
        parameters = max(parameters, edit.parameters)
        if report is not None:
            report(number, edit.history.steps, edit.history.losses[-1])
    return live, Cost(round(time.process_time() - began, 1), steps, parameters)


def continual_decoder(
    base: Encoder,
    vlm: VisionLanguageModel,
    updates: Sequence[Update],
    labels: Sequence[str],
    config: LoraConfig,
    *,
    seed: int,
) -> tuple[VisionLanguageModel, Cost]:
    """The same questions teach the language model instead, update after update; the encoder stays.

    Raises EditError, VlmError.
    """
    seconds, steps, parameters = 0.0, 0, 0
    for update in updates:
        tuned = tune_decoder(base, questions(vlm, labels, update, seed), config, seed=seed)
        vlm = tuned.vlm
        seconds += tuned.seconds
        steps += tuned.history.steps
        parameters = max(parameters, tuned.parameters)
    return vlm, Cost(round(seconds, 1), steps, parameters)


def together(updates: Sequence[Update]) -> Update:
    """All updates as one, for a refit."""
    pixels = torch.cat([update.pixels for update in updates])
    return Update(pixels, torch.cat([update.targets for update in updates]))
