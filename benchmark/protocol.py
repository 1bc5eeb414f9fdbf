"""How a method meets a stream of updates.

*continual*: each update is fitted on top of the encoder that the one before left, on its own photos
only (the paper's few-shot protocol). *offline*: the same with one update. *refit*: each update is
one fit from the base on the photos of all updates so far.

Legend: N photos, V labels, G guard photos.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.bed import Lesson
from editing.fewshot import EditTask
from editing.methods import Fit, MethodConfig, fit
from editing.progress import Progress, silent
from encoder.clip import Encoder
from encoder.prompts import Prompt

Protocol = Literal["offline", "continual", "refit"]


@dataclass(frozen=True)
class Guard:
    """Photos whose features stay: pixels uint8 [G, 3, S, S], the base's features fp32 [G, E]."""

    pixels: Tensor
    features: Tensor | None

    @classmethod
    def of(cls, base: Encoder, pixels: Tensor) -> Guard:
        return cls(pixels, base.embed_images(pixels).cpu() if len(pixels) else None)


@dataclass(frozen=True)
class Edited:
    """An encoder after an update, and what it took: `number` from 1, CPU seconds of all threads;
    `strength` is the part of the edit that it has."""

    number: int
    encoder: Encoder
    images: int
    steps: int
    loss: float | None
    parameters: int
    cpu_seconds: float
    seconds: float
    strength: float = 1.0


@dataclass(frozen=True)
class Stream:
    """What is taught, and what holds the edits back. `texts` gives the labels' features fp32 [V, E]
    as an encoder reads the V `prompts`; `strength_of` an edit on top of an encoder says how much of
    it is kept."""

    base: Encoder
    prompts: tuple[Prompt, ...]
    texts: Callable[[Encoder], Tensor]
    lessons: Sequence[Lesson]
    guard: Guard
    protocol: Protocol
    config: MethodConfig
    seed: int
    strength_of: Callable[[Encoder, Fit], float] = lambda *_: 1.0

    def run(
        self, *, after: tuple[int, Encoder] | None = None, progress: Progress = silent
    ) -> Iterator[Edited]:
        """Edit after edit. `after`: the number of the last update that is there already, and the
        encoder it left. Raises EditError."""
        done, live = (0, self.base) if after is None else after
        for number in range(done + 1, len(self.lessons) + 1):
            start, lesson = self._task(number, live)
            edited = self._fit(number, start, lesson, progress)
            live = edited.encoder
            yield edited

    def step_flops(self) -> int:
        """FLOPs of one training step: what a fit with one step counts more than one with none.

        Matrix products, convolutions and attention, a multiplication with its addition as two.
        """
        lesson = self.lessons[0]
        count = min(self.config.batch_size, len(lesson.targets))
        spread = torch.linspace(0, len(lesson.targets) - 1, count).long()
        few = Lesson(lesson.labels, lesson.pixels[spread], lesson.targets[spread])

        def counted(steps: int) -> int:
            once = {"max_steps": steps, "min_steps": steps, "rounds": 1}
            config = self.config.model_copy(update=once)
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                fit(self.base, self._edit_task(few, self.base), config, seed=self.seed)
            return int(counter.get_total_flops())

        return counted(1) - counted(0)

    def _task(self, number: int, live: Encoder) -> tuple[Encoder, Lesson]:
        if self.protocol != "refit":
            return live, self.lessons[number - 1]
        lesson = self.lessons[0]
        for later in self.lessons[1:number]:
            lesson = lesson + later
        return self.base, lesson

    def _fit(self, number: int, start: Encoder, lesson: Lesson, progress: Progress) -> Edited:
        began, cpu = time.monotonic(), time.process_time()
        edit = fit(
            start,
            self._edit_task(lesson, start),
            self.config,
            seed=self.seed,
            progress=progress,
        )
        spent, lasted = time.process_time() - cpu, time.monotonic() - began
        strength = self.strength_of(start, edit)
        label = f"update {number}, seed {self.seed}"
        encoder = start.merged_deltas(edit.at(strength), label=label)
        return Edited(
            number=number,
            encoder=encoder,
            images=len(lesson.targets),
            steps=edit.history.steps,
            loss=edit.history.losses[-1] if edit.history.losses else None,
            parameters=edit.parameters,
            cpu_seconds=round(spent, 1),
            seconds=round(lasted, 1),
            strength=strength,
        )

    def _edit_task(self, lesson: Lesson, start: Encoder) -> EditTask:
        count = len(lesson.targets)
        return EditTask(
            pixels=lesson.pixels,
            targets=lesson.targets,
            allowed=torch.ones(count, len(self.prompts), dtype=torch.bool),
            text_features=self.texts(start),
            prompts=self.prompts,
            new=torch.ones(count, dtype=torch.bool),
            guard_pixels=self.guard.pixels,
            guard_features=self.guard.features,
        )
