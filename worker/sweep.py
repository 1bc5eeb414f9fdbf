"""Once a second: takes back jobs that nobody holds, wakes the worker for due ones, tidies up.

The broker may lose every message; what is due in the database is found here.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from registry.artifacts import ArtifactStore, release_artifacts, unnamed_artifacts
from registry.batches import batches
from registry.claims import is_any_running, reclaim_expired
from registry.edit_jobs import due_jobs
from registry.errors import DatabaseError, StorageError
from registry.predictions import drop_predictions, surplus_predictions
from registry.session import reading, transaction
from registry.strays import FOLDERS, remove_strays, stray_files
from worker.hearing import Hearing
from worker.settings import Settings

log = logging.getLogger(__name__)
EVERY_SECONDS = 1.0
NUDGE_AGAIN_SECONDS = 5.0
PRUNE_EVERY_SECONDS = 60.0
MARK = "swept"
"""A file in the data folder, as old as the last round that went through."""
PAUSE_SECONDS = 0.02
"""Between short transactions in a row: a writer that waits on SQLite looks only now and then."""


@dataclass
class Sweep:
    """`idle` tells whether this process runs no job; a busy worker needs no waking. `nudge` tells
    whether the broker took it. Where nudges come to nothing, because the broker takes none or
    nobody hears them, `run_aside` runs what is due.

    `idle_work_is_due` tells whether an idle worker has something to compute ahead. `on_failure` is
    called when the thread ends by a failure that has no name here: without it no job that lost its
    worker would ever be taken back.
    """

    engine: Engine
    store: ArtifactStore
    settings: Settings
    nudge: Callable[[str], bool]
    run_aside: Callable[[], None]
    idle: Callable[[], bool]
    idle_work_is_due: Callable[[], bool]
    stopping: threading.Event
    on_failure: Callable[[], None]
    hearing: Hearing = field(default_factory=Hearing)
    _nudged: dict[str, float] = field(default_factory=dict)  # monotonic seconds by job id
    _oldest: str | None = None
    _pruned_at: float = -PRUNE_EVERY_SECONDS
    _collected: str = ""
    """Of the files, in order, those up to this hash were looked at."""

    def start(self) -> threading.Thread:
        """In a thread of its own, until `stopping`."""
        thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    self.once()
                    self._leave_mark()
                except (DatabaseError, StorageError) as error:
                    log.warning("the sweep comes back later: %s", error)
                self.stopping.wait(EVERY_SECONDS)
        finally:
            if not self.stopping.is_set():
                log.error("the sweep ended unexpectedly; the worker ends too")
                self.on_failure()

    def once(self) -> None:
        """One round. Raises DatabaseUnavailable, StorageFull, StorageUnavailable."""
        self.reclaim()
        self.wake()
        if time.monotonic() - self._pruned_at >= PRUNE_EVERY_SECONDS:
            self._pruned_at = time.monotonic()
            self.prune()
            self.collect_strays(datetime.now(UTC))
        self.collect()

    def _leave_mark(self) -> None:
        """For a health check; a mark that cannot be made only looks like no sweep."""
        with contextlib.suppress(OSError):
            (self.settings.data / MARK).touch()

    def reclaim(self) -> list[str]:
        """Queues jobs whose heartbeat stopped, or fails them after too many lost attempts."""
        with transaction(self.engine) as session:
            taken = reclaim_expired(
                session,
                now=datetime.now(UTC),
                lease=timedelta(seconds=self.settings.lease),
                max_attempts=self.settings.max_attempts,
            )
        for job_id in taken:
            log.warning("edit job %s lost its worker and was taken back", job_id)
        return taken

    def wake(self) -> None:
        """Nudges for each due job, again after a while: messages get lost."""
        with reading(self.engine) as session:
            due = due_jobs(session, datetime.now(UTC))
            running = is_any_running(session)
        now = time.monotonic()
        self._nudged = {job_id: at for job_id, at in self._nudged.items() if job_id in due}
        oldest = due[0] if due else None
        if running or oldest != self._oldest or oldest is None or not self.idle():
            self.hearing.settle()  # whoever hears takes the oldest first
        self._oldest = oldest
        if not self.idle():
            return
        if due:
            self._wake_for(due, now)
        elif self.idle_work_is_due():
            self.nudge("none")

    def _wake_for(self, due: Sequence[str], now: float) -> None:
        """One nudge that fails is enough to know how others would fare, and slowly."""
        taken = True
        for job_id in due:
            if taken and now - self._nudged.get(job_id, -math.inf) >= NUDGE_AGAIN_SECONDS:
                self._nudged[job_id] = now
                taken = self.nudge(job_id)
        if not taken or self.hearing.lost:
            self.hearing.settle()
            self.run_aside()

    def prune(self) -> None:
        """Lets go of predictions that are too old or too many, and of their images."""
        with reading(self.engine) as session:
            surplus = surplus_predictions(
                session,
                keep=timedelta(hours=self.settings.keep_predictions),
                keep_bytes=self.settings.keep_bytes,
                now=datetime.now(UTC),
            )
        for ids in batches(surplus):
            with transaction(self.engine) as session:
                images = drop_predictions(session, ids)
            with transaction(self.engine) as session:
                release_artifacts(session, self.store, images)
            if self.stopping.wait(PAUSE_SECONDS):
                return

    def collect(self) -> None:
        """Removes what was not released where it should have been, a hundred files a round: looking
        at all of them at once would take longer with every correction."""
        with reading(self.engine) as session:
            unnamed, last = unnamed_artifacts(session, after=self._collected)
        if unnamed:
            with transaction(self.engine) as session:
                release_artifacts(session, self.store, unnamed)
        self._collected = last or ""

    def collect_strays(self, now: datetime) -> None:
        """Removes files without a row, in one of the folders: the next one in the next minute, so
        that a large store is gone through a few times a day and no round takes long."""
        folder = FOLDERS[int(now.timestamp() / PRUNE_EVERY_SECONDS) % len(FOLDERS)]
        with reading(self.engine) as session:
            strays = stray_files(session, self.store, folder, now=now)
        for some in batches(strays):
            with transaction(self.engine) as session:
                for file in remove_strays(session, self.store, some):
                    log.info("removed %s, which no row ever named", file.name)
            if self.stopping.wait(PAUSE_SECONDS):
                return
