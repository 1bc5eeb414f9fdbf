"""Both sizes side by side: whatever else the machine does meanwhile slows down both."""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from sqlalchemy.orm import Session

from benchmark.growth.operations import Operation, Seeded, attempt
from benchmark.growth.plans import Plans, explain

ALLOWED_RATIO = 1.5
NOISE_MS = 0.3
"""A p95 that is larger by no more than this is not called growth."""
WARM_UP_ROUNDS = 10


@dataclass(frozen=True)
class Timing:
    """Milliseconds."""

    p50: float
    p95: float
    count: int


def has_grown(small: Timing, large: Timing, *, noise_ms: float = NOISE_MS) -> bool:
    """Whether the large database's p95 is larger by ratio and by more than noise."""
    return large.p95 > ALLOWED_RATIO * small.p95 and large.p95 - small.p95 > noise_ms


def summary(timing: Timing) -> dict[str, float]:
    """For a report."""
    return {
        "p50_ms": round(timing.p50, 3),
        "p95_ms": round(timing.p95, 3),
        "count": timing.count,
    }


@dataclass(frozen=True)
class Measured:
    """One operation in the small and in the large database."""

    operation: Operation
    small: Timing
    large: Timing
    small_plans: Plans
    large_plans: Plans

    @property
    def ratio(self) -> float:
        return self.large.p95 / self.small.p95

    @property
    def grew(self) -> bool:
        return self.operation.flat and has_grown(self.small, self.large)

    def facts(self) -> dict[str, Any]:
        sizes = {"small": (self.small, self.small_plans), "large": (self.large, self.large_plans)}
        return {
            "operation": self.operation.name,
            "flat": self.operation.flat,
            "grows_with": self.operation.grows_with,
            "grew": self.grew,
            "p95_ratio": round(self.ratio, 2),
            **{
                size: {**summary(timing), "rows": plans.rows}
                for size, (timing, plans) in sizes.items()
            },
        }


def measure_twice(
    operations: Sequence[Operation], small: Seeded, large: Seeded, *, rounds: int
) -> tuple[list[Measured], list[str]]:
    """As `measure`; what seems to have grown is measured anew, twice as often, and that counts:
    what did grow does so again, what a busy moment hit does not. And the names of those."""
    found = {one.operation.name: one for one in measure(operations, small, large, rounds=rounds)}
    doubtful = [one.operation for one in found.values() if one.grew]
    if doubtful:
        again = measure(doubtful, small, large, rounds=2 * rounds)
        found |= {one.operation.name: one for one in again}
    return list(found.values()), [operation.name for operation in doubtful]


def measure(
    operations: Sequence[Operation], small: Seeded, large: Seeded, *, rounds: int
) -> list[Measured]:
    """Every operation in both databases in turn, `rounds` times after some to warm up."""
    plans = {
        (operation.name, size): plans_of(operation, seeded)
        for operation in operations
        for size, seeded in enumerate((small, large))
    }
    took: dict[tuple[str, int], list[float]] = defaultdict(list)
    gc.collect()
    for turn in range(-min(WARM_UP_ROUNDS, rounds), rounds):
        for operation in operations:
            if turn % operation.every:
                continue
            for size, seeded in _in_turn(turn, small, large):
                milliseconds = 1000 * _timed(operation, seeded)
                if turn >= 0:
                    took[operation.name, size].append(milliseconds)
    return [
        Measured(
            operation,
            timing(took[operation.name, 0]),
            timing(took[operation.name, 1]),
            plans[operation.name, 0],
            plans[operation.name, 1],
        )
        for operation in operations
    ]


def plans_of(operation: Operation, seeded: Seeded) -> Plans:
    """How the database goes about an operation."""
    found: list[Plans] = []

    def run(session: Session, prepared: Any) -> float:
        found.append(explain(session, lambda: operation.act(session, seeded, prepared)))
        return 0.0

    attempt(operation, seeded, run)
    return found[0]


def _in_turn(turn: int, small: Seeded, large: Seeded) -> list[tuple[int, Seeded]]:
    both = [(0, small), (1, large)]
    return both if turn % 2 else both[::-1]


def _timed(operation: Operation, seeded: Seeded) -> float:
    def run(session: Session, prepared: Any) -> float:
        began = time.perf_counter()
        operation.act(session, seeded, prepared)
        return time.perf_counter() - began

    return attempt(operation, seeded, run)


def timing(milliseconds: Sequence[float]) -> Timing:
    """At least one."""
    both = [*milliseconds, *milliseconds[:1]] if len(milliseconds) == 1 else milliseconds
    p95 = quantiles(both, n=20, method="inclusive")[-1]
    return Timing(median(milliseconds), p95, len(milliseconds))
