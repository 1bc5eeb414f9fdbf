"""Where the parts of a measurement begin and end: CPU seconds, memory and FLOPs of each.

CPU seconds of all threads: what runs beside it on the machine hardly shows. FLOPs are counted by
torch as operations are called, a multiplication with its addition as two: matrix products,
convolutions, and attention, whose kernel for CPUs torch's own tables leave out. Its backward counts
as four products; that it computes the scores once more is a kernel's choice.

Legend: B images, H heads, Q queries, K keys, d width of a head.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.memory import forget_peak, peak_bytes

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """One part: `flops` where they were counted."""

    phase: str
    step: int
    cpu_seconds: float
    peak_bytes: int
    flops: int | None


class Phases:
    """Cuts time into spans, one after the other; can be the `progress` of a fit."""

    def __init__(self, *, counted: tuple[str, int]) -> None:
        """FLOPs are counted in the span of this phase and step alone: counting takes time."""
        self.spans: list[Span] = []
        self._counted = counted
        self._end: Callable[[], None] | None = None
        self._key: tuple[str, int] | None = None

    def __call__(self, phase: str, step: int, steps: int, loss: float | None) -> None:
        """As `editing.progress` has it; told twice, a step goes on."""
        del steps, loss
        self.begin(phase, step)

    def begin(self, phase: str, step: int = 0) -> None:
        """End what runs and begin this, unless it is this that runs."""
        if self._key == (phase, step):
            return
        self.end()
        self._key = (phase, step)
        self._end = self._open(phase, step)

    def end(self) -> None:
        """End what runs, if anything does."""
        if self._end is not None:
            self._end()
        self._end = self._key = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A span around a block."""
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def of(self, phase: str) -> list[Span]:
        """Its spans, in order."""
        return [span for span in self.spans if span.phase == phase]

    def _open(self, phase: str, step: int) -> Callable[[], None]:
        counter: Any = flop_counter() if (phase, step) == self._counted else None
        forget_peak()
        if counter is not None:
            counter.__enter__()
        begun = time.process_time()

        def close() -> None:
            seconds = time.process_time() - begun
            flops = None
            if counter is not None:
                counter.__exit__(None, None, None)
                flops = int(counter.get_total_flops())
            self.spans.append(Span(phase, step, seconds, peak_bytes(), flops))

        return close


def flop_counter() -> FlopCounterMode:
    """Torch's, with the attention kernel of CPUs."""
    aten = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        },
    )


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Shapes [B, H, Q, d], [B, H, K, d], [B, H, K, d]: the scores, and their sums of values."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def _attention_backward(
    _: Shape, query: Shape, key: Shape, value: Shape, *__: Any, **___: Any
) -> int:
    return 2 * _attention(query, key, value)
