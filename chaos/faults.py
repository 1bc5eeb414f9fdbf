"""What can go wrong in one night, each as something to do to a stack.

A fault returns once its cause is over; what it takes the services to come back is theirs.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
from kombu.exceptions import OperationalError as BrokerDown
from redis.exceptions import RedisError

from chaos.ledger import Answer
from chaos.lookout import looking, phase_of, queued_job
from chaos.messages import flush, send_to_all
from chaos.phases import PHASES, catch_in_phase, kill_in_phase
from chaos.stack import LEASE_SECONDS, POSTGRES, REDIS, Stack
from servers.waiting import wait_until

STRIKE_SECONDS = 30.0
JOB_SECONDS = 20.0
OUTAGE_SECONDS = 10.0
BREATH_SECONDS = 4.0
FULL_SECONDS = 6.0
TOLD_SECONDS = 14.0
FULL = 507
COPIES = 6


@dataclass(frozen=True)
class Injected:
    """`done` is False where no chance to inject it came in time."""

    kind: str
    at: float
    seconds: float
    done: bool


@dataclass
class Faults:
    """By name, in `kinds`. Every random choice is `rng`'s; `answers` are those that clients get."""

    stack: Stack
    rng: random.Random
    answers: Sequence[Answer] = ()
    injected: list[Injected] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kinds(self) -> dict[str, Callable[[], bool]]:
        phases = {f"worker killed while {phase}": self._killing_in(phase) for phase in PHASES}
        return {
            **phases,
            "api killed": self._kill_api,
            "broker flushed": self._flush,
            "broker restarted": lambda: self._restart(REDIS, 2.0),
            "database restarted": lambda: self._restart(POSTGRES, 0.0),
            "database killed": lambda: self._kill(POSTGRES),
            "database down for 10 s": lambda: self._restart(POSTGRES, OUTAGE_SECONDS),
            "database paused": lambda: self._pause(POSTGRES, BREATH_SECONDS),
            "worker paused beyond its lease": self._pause_worker,
            "api paused": lambda: self._pause(self.rng.choice(self.stack.apis), BREATH_SECONDS),
            "artifact disk full": self._fill_disk,
            "one job sent to both workers": self._send_to_all,
        }

    def inject(self, *names: str) -> None:
        """All of them at once, each in a thread; each is written down."""
        threads = [
            threading.Thread(target=self._one, args=(name,), name=name, daemon=True)
            for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _one(self, name: str) -> None:
        began, at = time.monotonic(), time.time()
        try:
            done = self.kinds[name]()
        except (psycopg.OperationalError, RedisError, BrokerDown, TimeoutError):
            done = False  # what it needs was away by another fault
        with self._lock:
            self.injected.append(Injected(name, at, time.monotonic() - began, done))

    def _killing_in(self, phase: str) -> Callable[[], bool]:
        return lambda: kill_in_phase(self.stack, phase, seconds=STRIKE_SECONDS)

    def _kill(self, service: str) -> bool:
        self.stack.kill(service)
        return True

    def _kill_api(self) -> bool:
        return self._kill(self.rng.choice(self.stack.apis))

    def _flush(self) -> bool:
        flush(self.stack.broker_url)
        return True

    def _restart(self, service: str, seconds: float) -> bool:
        self.stack.stop(service)
        time.sleep(seconds)
        self.stack.start(service)
        return True

    def _pause(self, service: str, seconds: float) -> bool:
        self.stack.pause(service)
        time.sleep(seconds)
        self.stack.resume(service)
        return True

    def _pause_worker(self) -> bool:
        """In the middle of a job, until another has taken it over (or nobody has, for long)."""
        with looking(self.stack.database_url) as connection:
            caught = catch_in_phase(self.stack, connection, "training", seconds=JOB_SECONDS)
            if caught is None:
                return False
            try:
                wait_until(
                    lambda: phase_of(connection, caught.job) is None,
                    seconds=4 * LEASE_SECONDS,
                    what="the job to be taken back",
                )
                time.sleep(1.0)  # another has begun with it
            finally:
                self.stack.resume(caught.worker)
        return True

    def _fill_disk(self) -> bool:
        """For a while, and until a client was told so."""
        known = len(self.answers)
        self.stack.fill_disk()
        try:
            time.sleep(FULL_SECONDS)
            return wait_until(
                lambda: any(one.status == FULL for one in self.answers[known:]),
                seconds=TOLD_SECONDS,
                what=f"a client to be answered {FULL}",
            )
        finally:
            self.stack.free_disk()

    def _send_to_all(self) -> bool:
        """While two workers run at least; who takes what is theirs."""
        with looking(self.stack.database_url) as connection:
            job = wait_until(
                lambda: self._two_workers_since(time.time()) and queued_job(connection),
                seconds=STRIKE_SECONDS,
                what="a job in the queue of two workers",
            )
        since = time.time()
        send_to_all(self.stack.broker_url, str(job), COPIES)
        return self._two_workers_since(since)

    def _two_workers_since(self, at: float) -> bool:
        now = time.time()
        away = {one.service for one in self.stack.windows() if one.overlaps(at, now)}
        return len(set(self.stack.workers) - away) > 1


def schedule(kinds: Sequence[str], rng: random.Random, *, rounds: int) -> list[tuple[str, ...]]:
    """Every kind alone, then several at once, round after round in an order that `rng` draws."""
    drawn: list[tuple[str, ...]] = []
    for _ in range(rounds):
        alone: list[tuple[str, ...]] = [(kind,) for kind in kinds]
        together: list[tuple[str, ...]] = [pair for pair in COMBINATIONS if set(pair) <= set(kinds)]
        rng.shuffle(alone)
        rng.shuffle(together)
        drawn += alone + together
    return drawn


COMBINATIONS = (
    ("worker killed while training", "broker flushed"),
    ("worker killed while promoting", "api killed"),
    ("worker killed while storing", "artifact disk full"),
    ("database down for 10 s", "api killed", "broker restarted"),
    ("worker paused beyond its lease", "api paused"),
    ("database paused", "broker flushed"),
    ("database killed", "api killed"),
)
