"""What a scrape looks up anew: database, queue, readiness, free space.

A scrape is answered whatever happens to the database: what is not known after ``LOOK_SECONDS`` is
left out, and ``emend_database_up`` says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from sqlalchemy import Engine

from app.errors import NotReady
from app.settings import Settings
from registry.errors import RegistryError
from registry.job_counts import JobCounts
from registry.queue_state import QueueState, queue_state
from registry.session import reading

LOOK_SECONDS = 3.0  # less than any request may take
STATES = ("queued", "running", "succeeded", "rejected", "failed", "cancelled")


Found = TypeVar("Found")


class Look(Generic[Found]):
    """Something looked at in a thread of its own, by one at a time: who asks meanwhile sees what it
    sees. A look that never comes back, at a disk that hangs, costs one thread and not one a scrape.
    """

    def __init__(self, name: str, see: Callable[[], Found | None]) -> None:
        """What `see` raises is nothing seen."""
        self._name = name
        self._see = see
        self._lock = threading.Lock()
        self._under_way: Future[Found | None] | None = None
        self._since = 0.0  # monotonic seconds

    async def in_time(self) -> Found | None:
        """None for what was not seen in time; at once while an earlier look is overdue."""
        under_way = self._begun()
        if time.monotonic() - self._since > LOOK_SECONDS:
            return None
        seen = asyncio.wrap_future(under_way)
        done, _ = await asyncio.wait([seen], timeout=LOOK_SECONDS)
        return seen.result() if done else None

    def _begun(self) -> Future[Found | None]:
        with self._lock:
            if self._under_way is None:
                self._under_way, self._since = Future(), time.monotonic()
                self._under_way.set_running_or_notify_cancel()  # from now on nobody can cancel it
                run = contextvars.copy_context().run
                threading.Thread(
                    target=run, args=(self._run,), name=self._name, daemon=True
                ).start()
            return self._under_way

    def _run(self) -> None:
        found = None
        try:
            found = self._see()
        finally:
            with self._lock:
                under_way, self._under_way = self._under_way, None
            if under_way is not None:
                under_way.set_result(found)


@dataclass(frozen=True)
class QueueSeen:
    """The queue, and the seconds that the database took to tell."""

    queue: QueueState
    seconds: float


class VitalSigns:
    """One process's look at what it stands on."""

    def __init__(
        self, engine: Engine, readiness: Callable[[], object], folders: Mapping[str, Path]
    ) -> None:
        """``readiness`` raises while the process is not ready, and asks nobody; ``folders`` are
        those whose disks must not fill, by name."""
        self._engine = engine
        self._readiness = readiness
        self._folders = folders
        self._job_counts = JobCounts()
        self._at_queue = Look("look-at-queue", self._queue)
        self._at_disks = Look("look-at-disks", self._disks)

    async def metrics(self) -> list[Metric]:
        """Gauges of this moment; those that only the database knows are absent without it."""
        found, disks = await asyncio.gather(self._at_queue.in_time(), self._at_disks.in_time())
        families = [
            _gauge("emend_database_up", "1 while the database answers.", float(found is not None)),
            _gauge(
                "emend_ready",
                "1 while this process answers /health/ready with 200.",
                float(self._is_ready()),
            ),
            *(disks or ()),
        ]
        return families if found is None else [*families, *_of_database(found)]

    def _queue(self) -> QueueSeen | None:
        begun = time.perf_counter()
        try:
            with reading(self._engine) as session:
                now = datetime.now(UTC)
                queue = queue_state(session, now=now, counts=self._job_counts)
        except RegistryError:
            return None
        return QueueSeen(queue, time.perf_counter() - begun)

    def _is_ready(self) -> bool:
        try:
            self._readiness()
        except (NotReady, RegistryError):
            return False
        return True

    def _disks(self) -> list[Metric]:
        free = GaugeMetricFamily(
            "emend_disk_free_bytes", "Bytes that may still be written.", labels=["folder"]
        )
        size = GaugeMetricFamily("emend_disk_bytes", "Bytes of the disk.", labels=["folder"])
        for name, folder in self._folders.items():
            with contextlib.suppress(OSError):  # a disk that is gone has neither
                usage = shutil.disk_usage(folder)
                free.add_metric([name], usage.free)
                size.add_metric([name], usage.total)
        return [free, size]


def folders_of(settings: Settings) -> dict[str, Path]:
    """The local folders that a service writes to, by what is in them."""
    places = {"data": str(settings.data), "artifacts": settings.artifacts_location}
    return {name: Path(place) for name, place in places.items() if "://" not in place}


def _of_database(found: QueueSeen) -> Iterator[Metric]:
    queue = found.queue
    yield _gauge(
        "emend_database_seconds", "Seconds that the database took for this scrape.", found.seconds
    )
    yield _gauge(
        "emend_promoted_version",
        "The adapter version that every process should answer with; -1 before there is one.",
        -1 if queue.promoted is None else queue.promoted,
    )
    jobs = {state: float(queue.jobs.get(state, 0)) for state in STATES}
    yield _gauge("emend_edit_jobs", "Edit jobs by state.", jobs)
    yield _gauge(
        "emend_newest_job_seconds",
        "Seconds from start to end, of the newest job that ended so.",
        queue.newest_seconds,
    )
    yield _gauge(
        "emend_oldest_due_job_seconds",
        "Seconds that the longest waiting job could have run already; 0 when none is due.",
        queue.oldest_due_seconds,
    )
    yield _gauge(
        "emend_running_job_heartbeat_age_seconds",
        "Seconds since the running job's worker gave a sign of life; 0 when none runs.",
        queue.heartbeat_age_seconds,
    )
    yield _gauge(
        "emend_lost_attempts",
        "Attempts whose worker went silent, of the jobs that have not ended.",
        queue.lost_attempts,
    )


def _gauge(name: str, text: str, value: float | Mapping[str, float]) -> Metric:
    """A gauge of one value, or of one for each ``status``."""
    if isinstance(value, Mapping):
        family = GaugeMetricFamily(name, text, labels=["status"])
        for status, one in value.items():
            family.add_metric([status], one)
        return family
    return GaugeMetricFamily(name, text, value=value)
