"""The pulse of a running job: keeps its claim, carries its progress, brings back bad news.

A thread of its own with a connection of its own, so that a long step never costs the claim. The
working thread calls `report` between steps; what the pulse has learnt is raised there.

When the worker is asked to stop, the pulse itself gives the claim back: the working thread may be
in a long step and be killed before its end, and a stop must not count as a lost attempt.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from sqlalchemy import Engine

from editing.errors import EditCancelled
from registry.claims import heartbeat, release_job
from registry.errors import ClaimLost, DatabaseUnavailable, StorageFull
from registry.promotions import live_promotion
from registry.session import transaction
from registry.tables import EditJob
from worker.errors import ClaimMoved, LiveChanged, WorkerStopping

log = logging.getLogger(__name__)
LOOK_EVERY_SECONDS = 0.25
"""For a wish to stop, however seldom the heart beats."""


class Pulse:
    """`with Pulse(...) as pulse:` around the work; `pulse.report` is an `editing.Progress`.

    `every` and `lease` are seconds.
    """

    def __init__(
        self,
        engine: Engine,
        job: EditJob,
        *,
        parent: int,
        every: float,
        lease: float,
        stopping: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._job_id = job.id
        self._attempt = job.attempt
        self._parent = parent
        self._every = every
        self._lease = lease
        self._stopping = stopping
        self._bad_news: Exception | None = None
        self._progress: dict[str, Any] = {"phase": "waiting", "step": 0, "steps": 0, "loss": None}
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._wake.set()
        self._thread.join()

    def report(self, phase: str, step: int, steps: int, loss: float | None) -> None:
        """Notes where the work stands; a new phase is written at once.

        Raises EditCancelled, LiveChanged, ClaimMoved, WorkerStopping.
        """
        new_phase = phase != self._progress["phase"]
        if loss is not None and not math.isfinite(loss):
            loss = None  # JSON knows no such number
        self._progress = {"phase": phase, "step": step, "steps": steps, "loss": loss}
        if new_phase:
            self._wake.set()
        if self._bad_news is not None:
            raise self._bad_news
        if self._stopping():
            raise WorkerStopping

    def _beat_until_ended(self) -> None:
        last_beat = time.monotonic()
        while not self._ended.is_set() and self._bad_news is None:
            try:
                self._bad_news = self._release() if self._stopping() else self._beat()
                last_beat = time.monotonic()
            except (DatabaseUnavailable, StorageFull) as error:
                log.warning("The heartbeat of edit job %s was not written: %s", self._job_id, error)
                if time.monotonic() - last_beat > self._lease:
                    self._bad_news = ClaimMoved(self._job_id, self._attempt)
            self._rest()

    def _rest(self) -> None:
        """Until the next beat: sooner with a new phase, at the end of the work, or at a stop."""
        until = time.monotonic() + self._every
        while not self._wake.wait(min(self._every, LOOK_EVERY_SECONDS)):
            if self._stopping() or time.monotonic() >= until:
                break
        self._wake.clear()

    def _release(self) -> Exception:
        with transaction(self._engine) as session:
            try:
                release_job(session, self._job_id, self._attempt, now=datetime.now(UTC))
            except ClaimLost:
                return ClaimMoved(self._job_id, self._attempt)
        return WorkerStopping()

    def _beat(self) -> Exception | None:
        with transaction(self._engine) as session:
            try:
                cancelled = heartbeat(
                    session,
                    self._job_id,
                    self._attempt,
                    progress=self._progress,
                    now=datetime.now(UTC),
                )
            except ClaimLost:
                return ClaimMoved(self._job_id, self._attempt)
            live = live_promotion(session).version
        if cancelled:
            return EditCancelled()
        return None if live == self._parent else LiveChanged(self._parent, live)
