"""Looks into the database all the time, as nobody else does: when did a promotion become visible,
which job runs where, and in which phase?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

LOOK_EVERY_SECONDS = 0.03
CONNECT_SECONDS = 3
RUNNING = (
    "SELECT id, worker, attempt, progress->>'phase' FROM edit_jobs WHERE status = 'running' LIMIT 1"
)
DUE = "SELECT id FROM edit_jobs WHERE status = 'queued' ORDER BY number LIMIT 1"
UNENDED = "SELECT count(*) FROM edit_jobs WHERE status IN ('queued', 'running')"

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class RunningJob:
    id: str
    worker: str
    attempt: int
    phase: str


@contextmanager
def looking(url: str) -> Iterator[Connection]:
    """A connection that sees every commit at once. Raises psycopg.OperationalError."""
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        yield connection


def running_job(connection: Connection) -> RunningJob | None:
    """There is at most one."""
    row = connection.execute(RUNNING).fetchone()
    return None if row is None else RunningJob(*row)


def phase_of(connection: Connection, job: RunningJob) -> str | None:
    """Where this attempt stands; None once it has ended or was taken back."""
    found = running_job(connection)
    same = found is not None and (found.id, found.attempt) == (job.id, job.attempt)
    return found.phase if same and found is not None else None


def queued_job(connection: Connection) -> str | None:
    row = connection.execute(DUE).fetchone()
    return None if row is None else str(row[0])


def count_unended(connection: Connection) -> int:
    row = connection.execute(UNENDED).fetchone()
    return int(row[0]) if row is not None else 0


@dataclass
class Lookout:
    """`first_seen`: promotion id -> `time.time()` when it was visible to others for certain."""

    url: str
    first_seen: dict[int, float] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=2 * CONNECT_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with looking(self.url) as connection:
                    self._look(connection)
            except psycopg.OperationalError:
                self._over.wait(LOOK_EVERY_SECONDS)

    def _look(self, connection: Connection) -> None:
        query = "SELECT id FROM promotions WHERE id > %s ORDER BY id"
        while not self._over.wait(LOOK_EVERY_SECONDS):
            last = max(self.first_seen, default=0)
            found = connection.execute(query, (last,)).fetchall()
            now = time.time()
            self.first_seen.update((int(row[0]), now) for row in found)
