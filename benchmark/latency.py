"""One client that keeps asking: no slow or failed answer during an edit goes unseen."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import httpx

from client import EmendClient, EmendError

PAUSE_SECONDS = 0.05


@dataclass
class LatencyProbe:
    """Asks the same question of a service, from a thread of its own, as often as it is entered.

    ``phase`` says what the service is doing meanwhile; answers are told apart by it.
    """

    base_url: str
    image: bytes
    label_set: str
    phase: str = "idle"
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def _ask_on(self) -> None:
        with EmendClient(self.base_url, timeout=30.0) as service:
            while not self._ended.wait(PAUSE_SECONDS):
                phase, begun = self.phase, time.perf_counter()
                try:
                    service.classify([self.image], label_set=self.label_set)
                except (EmendError, httpx.TransportError) as error:
                    self.failures.append(repr(error))
                self.seconds[phase].append(time.perf_counter() - begun)

    def __enter__(self) -> LatencyProbe:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, name="latency-probe", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def summary(self) -> dict[str, Any]:
        """Milliseconds of all answers, and the slowest of each phase; and what failed."""
        everything = [s for seconds in self.seconds.values() for s in seconds]
        return {
            **percentiles(everything),
            "slowest_ms": {p: round(1000 * max(s), 1) for p, s in self.seconds.items()},
            "failures": self.failures,
        }


def percentiles(seconds: Sequence[float]) -> dict[str, Any]:
    """How many, and in milliseconds their median, 95th and 99th percentile and maximum."""
    ms = sorted(1000 * s for s in seconds)
    cuts = quantiles(ms, n=100) if len(ms) > 1 else ms * 99
    return {
        "requests": len(ms),
        "median_ms": round(median(ms), 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(ms[-1], 1),
    }
