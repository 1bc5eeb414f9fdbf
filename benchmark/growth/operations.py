"""What API and worker ask of the registry, each as they ask it: a part of one transaction.

`prepare` is not timed; whatever an operation writes is rolled back, so that the next one finds the
same history.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from benchmark.growth.history import History
from registry.artifacts import ArtifactStore
from registry.session import transaction


@dataclass(frozen=True)
class Seeded:
    """A seeded database, and the chance that picks what to ask for."""

    history: History
    engine: Engine
    store: ArtifactStore
    folder: Path
    """For what a process on it keeps besides."""
    chance: random.Random
    memory: dict[str, Any] = field(default_factory=dict)
    """What a process would remember between two calls."""

    def correction(self) -> str:
        [number] = self.history.some(self.chance, 1)
        return self.history.correction_id(number)

    def version(self) -> int:
        return self.chance.randint(1, self.history.versions)

    def job(self) -> str:
        return self.history.job_id(self.chance.randint(1, self.history.cycle_jobs))


Act = Callable[[Session, Seeded, Any], object]


@dataclass(frozen=True)
class Operation:
    """`flat` ones must not grow; others grow with what `grows_with` says, and are bounded."""

    name: str
    act: Act
    prepare: Callable[[Session, Seeded], Any] | None = None
    grows_with: str | None = None
    every: int = 1
    """Measured in one of so many rounds; more than 1 for what is slow."""

    @property
    def flat(self) -> bool:
        return self.grows_with is None


class _TakenBack(Exception):
    """Ends a transaction that is rolled back."""


def attempt(operation: Operation, seeded: Seeded, run: Callable[[Session, Any], float]) -> float:
    """What `run` returns for the operation's prepared transaction, which leaves no trace."""
    result = 0.0
    try:
        with transaction(seeded.engine) as session:
            prepared = operation.prepare(session, seeded) if operation.prepare else None
            result = run(session, prepared)
            raise _TakenBack
    except _TakenBack:
        return result
