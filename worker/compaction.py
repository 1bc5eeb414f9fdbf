"""Between jobs: long chains of adapters get snapshots, so that any version is loaded soon.

The sweep's thread asks whether there is something to do; the work itself is done where jobs run,
one version a turn, and makes way as soon as a job is due. Several workers may do the same at once:
they come to the same file, and the row of one of them stays.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from encoder.clip import Link
from encoder.errors import EncoderError, OutOfMemory
from encoder.memory import memory_watched
from registry.artifacts import discard_unkept
from registry.edit_jobs import due_jobs
from registry.errors import (
    DatabaseError,
    RegistryError,
    StorageFull,
    StorageUnavailable,
)
from registry.session import reading, transaction
from registry.snapshots import record_snapshot, surplus_snapshots, version_to_compact
from worker.errors import NotIdle
from worker.versions import let_go, links
from worker.workshop import Workshop

log = logging.getLogger(__name__)
LOOK_EVERY_SECONDS = 0.25
"""For a job that became due meanwhile."""
REST_SECONDS = 60.0
"""After the store was full or did not answer."""
SHORT_OF_MEMORY_SECONDS = 600.0
"""For a version that memory was too short for."""


@dataclass
class Compaction:
    """Versions that cannot be merged are told once and passed over from then on; those that memory
    is too short for, for a while."""

    workshop: Workshop
    _passed_over: dict[int, float] = field(default_factory=dict)  # until when, monotonic seconds
    _rests_until: float = 0.0  # monotonic seconds
    _looked_at: float = 0.0

    def is_due(self) -> bool:
        """Raises DatabaseUnavailable."""
        return time.monotonic() >= self._rests_until and self._next() is not None

    def run(self) -> None:
        """Makes at most one snapshot; nothing when it is not due. Raises DatabaseUnavailable."""
        version = self._next() if time.monotonic() >= self._rests_until else None
        if version is None:
            return
        try:
            self._compact(version)
            self._thin()
        except NotIdle:
            log.info("the snapshot of version %d waits: there are jobs to do", version)
        except DatabaseError:
            raise
        except (StorageFull, StorageUnavailable) as outage:
            self._rests_until = time.monotonic() + REST_SECONDS
            log.warning("snapshots are made later: %s", outage)
        except OutOfMemory as shortage:
            self._passed_over[version] = time.monotonic() + SHORT_OF_MEMORY_SECONDS
            log.warning("version %d gets its snapshot later: %s", version, shortage)
        except (EncoderError, RegistryError) as error:
            self._passed_over[version] = math.inf
            log.warning("version %d gets no snapshot: %s", version, error)

    def _next(self) -> int | None:
        now = time.monotonic()
        passed_over = tuple(each for each, until in self._passed_over.items() if until > now)
        with reading(self.workshop.engine) as session:
            return version_to_compact(session, passed_over=passed_over)

    def _compact(self, version: int) -> None:
        base, store = self.workshop.base, self.workshop.store
        began = time.monotonic()
        with memory_watched(base.device):
            encoder = base.merged(self._while_idle(links(self.workshop, version)))
            data = base.snapshot_of(encoder).to_bytes()
        digest, now = store.put(data), datetime.now(UTC)
        with transaction(self.workshop.engine) as session:
            kept = record_snapshot(session, store, version, digest=digest, size=len(data), now=now)
        if not kept:
            with transaction(self.workshop.engine) as session:
                discard_unkept(session, store, [digest])
            return
        seconds = time.monotonic() - began
        log.info("version %d has a snapshot of %d bytes, in %.1f s", version, len(data), seconds)

    def _thin(self) -> None:
        with reading(self.workshop.engine) as session:
            surplus = list(surplus_snapshots(session))
        if surplus:
            let_go(self.workshop, surplus)

    def _while_idle(self, chain: Iterable[Link]) -> Iterator[Link]:
        for link in chain:
            self._make_way()
            yield link

    def _make_way(self) -> None:
        """Raises NotIdle when a job is due or the worker is to stop."""
        if self.workshop.stopping.is_set():
            raise NotIdle
        if time.monotonic() - self._looked_at < LOOK_EVERY_SECONDS:
            return
        self._looked_at = time.monotonic()
        with reading(self.workshop.engine) as session:
            if due_jobs(session, datetime.now(UTC)):
                raise NotIdle
