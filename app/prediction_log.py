"""Keeps predictions and their images for a while, off the request's path.

A bounded queue and one thread. When the queue is full a prediction is not kept, which is counted
and logged; its answer was given all the same. A correction that names a prediction first waits
until everything queued before it is written (`flush`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.errors import PredictionLogLost
from app.image_keeping import write_with_images
from app.metrics import Metrics
from app.settings import Settings
from registry.artifacts import ArtifactStore, release_artifacts
from registry.batches import batches
from registry.errors import RegistryError
from registry.predictions import (
    NewPrediction,
    drop_predictions,
    keep_predictions,
    surplus_predictions,
)
from registry.session import reading, transaction

logger = logging.getLogger(__name__)
BATCHES_WAITING = 256
BYTES_WAITING = 256 * 1024 * 1024
FLUSH_SECONDS = 10.0
PRUNE_EVERY = 60.0
PRUNE_SHARE = 16  # of the bytes to keep: written meanwhile, they call for pruning at once
PRUNED_AT_ONCE = 1000  # whoever waits in `flush` waits for them; the worker takes what is more
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Answered:
    """One image that was answered; ``labels`` are what the answer could have been."""

    id: str
    image: bytes
    version: int
    label_set: str | None
    labels: tuple[str, ...]
    answer: list[dict[str, Any]]  # [{"label", "score"}, ...], best first
    at: datetime


class PredictionLog:
    """``keep`` never waits; `flush` waits until what came before it is written."""

    def __init__(
        self, settings: Settings, engine: Engine, store: ArtifactStore, metrics: Metrics
    ) -> None:
        self._hours = settings.keep_predictions
        self._bytes = settings.keep_bytes
        self._engine = engine
        self._store = store
        self._metrics = metrics
        self._waiting: queue.Queue[Sequence[Answered] | threading.Event | None] = queue.Queue()
        self._held = 0  # bytes that wait
        self._batches = 0
        self._lock = threading.Lock()
        self._prune_at = 0.0  # on the monotonic clock
        self._written = 0  # bytes since the last pruning
        self._stopping = threading.Event()
        self.on_failure: Callable[[Exception], None] = _log_failure
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._hours > 0 and self._bytes > 0

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits and ends."""
        self._stopping.set()
        self._waiting.put(None)
        self._thread.join(timeout=STOP_SECONDS)

    def keep(self, batch: Sequence[Answered]) -> None:
        """Takes the predictions of one request to be written soon."""
        if not self.keeps or not batch:
            return
        size = _size(batch)
        with self._lock:
            full = self._batches >= BATCHES_WAITING or self._held + size > BYTES_WAITING
            if not full:
                self._batches += 1
                self._held += size
                self._waiting.put(batch)
                self._metrics.predictions_waiting.inc(len(batch))
        if full:
            self._lose(batch, "too many wait to be written")

    def flush(self) -> None:
        """Returns once everything given to `keep` before this call is written or lost."""
        done = threading.Event()
        self._waiting.put(done)
        if not done.wait(FLUSH_SECONDS):
            logger.warning("predictions are still being written after %g s", FLUSH_SECONDS)

    def _run(self) -> None:
        try:
            self._write_all()
        finally:
            if not self._stopping.is_set():
                self.on_failure(PredictionLogLost())

    def _write_all(self) -> None:
        while True:
            try:
                item = self._waiting.get(timeout=PRUNE_EVERY)
            except queue.Empty:
                self._prune()
                continue
            if item is None:
                return
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._write(item)
            self._prune()

    def _write(self, batch: Sequence[Answered]) -> None:
        try:
            self._written += self._store_batch(batch)
        except RegistryError as error:
            self._lose(batch, str(error))
        with self._lock:
            self._batches -= 1
            self._held -= _size(batch)
        self._metrics.predictions_waiting.dec(len(batch))

    def _store_batch(self, batch: Sequence[Answered]) -> int:
        """The bytes that it takes."""

        def write(session: Session, digests: list[str]) -> int:
            rows = [_row(answered, digest) for answered, digest in zip(batch, digests, strict=True)]
            return keep_predictions(session, rows, now=batch[0].at)

        images = [answered.image for answered in batch]
        return write_with_images(self._engine, self._store, images, write)

    def _prune(self) -> None:
        if time.monotonic() < self._prune_at and self._written < self._bytes // PRUNE_SHARE:
            return
        self._prune_at, self._written = time.monotonic() + PRUNE_EVERY, 0
        try:
            with reading(self._engine) as session:
                surplus = surplus_predictions(
                    session,
                    keep=timedelta(hours=self._hours),
                    keep_bytes=self._bytes,
                    now=datetime.now(UTC),
                    limit=PRUNED_AT_ONCE,
                )
            for ids in batches(surplus):
                with transaction(self._engine) as session:
                    unnamed = drop_predictions(session, ids)
                with transaction(self._engine) as session:
                    release_artifacts(session, self._store, unnamed)
        except RegistryError as error:
            logger.warning("old predictions are not removed yet: %s", error)

    def _lose(self, batch: Sequence[Answered], reason: str) -> None:
        self._metrics.predictions_lost.inc(len(batch))
        logger.warning("%d predictions are not kept: %s", len(batch), reason)


def _size(batch: Sequence[Answered]) -> int:
    """Roughly what it takes in memory: its images, and the labels that they share."""
    return sum(len(answered.image) for answered in batch) + sum(map(len, batch[0].labels))


def _log_failure(error: Exception) -> None:
    logger.error("%s", error)


def _row(answered: Answered, digest: str) -> NewPrediction:
    return NewPrediction(
        id=answered.id,
        image_sha256=digest,
        version=answered.version,
        label_set=answered.label_set,
        vocabulary=answered.labels,
        answer=answered.answer,
        bytes=len(answered.image),
    )
