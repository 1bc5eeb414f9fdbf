"""The same growth as a client sees it: two real API processes, one on each database.

The base encoder is live in both: no version of the history has a file. Nothing runs the jobs.
"""

from __future__ import annotations

import io
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from PIL import Image

from benchmark.growth.measure import WARM_UP_ROUNDS, Timing, has_grown, summary, timing
from benchmark.growth.operations import Seeded
from client import EmendClient, local_service
from registry.promotions import live_promotion, promote
from registry.session import transaction

NOISE_MS = 2.0
"""A request passes through threads and sockets; a larger p95 is not called growth before this."""
SETTINGS = {
    "EMEND_ENCODER": "bundled",
    "EMEND_VLM": "none",  # no question is asked
    "EMEND_EDIT_BATCH": "1000000",
    "EMEND_EDIT_WAIT": "86400",
}
SIDE = 16

Ask = Callable[[EmendClient, Seeded], object]


@dataclass(frozen=True)
class Asked:
    """One request in the small and in the large database."""

    name: str
    small: Timing
    large: Timing

    @property
    def grew(self) -> bool:
        return has_grown(self.small, self.large, noise_ms=NOISE_MS)

    def facts(self) -> dict[str, Any]:
        ratio = round(self.large.p95 / self.small.p95, 2)
        sizes = {"small": summary(self.small), "large": summary(self.large)}
        return {"request": self.name, "grew": self.grew, "p95_ratio": ratio, **sizes}


def _pictures() -> Iterator[bytes]:
    """Small PNGs, no two alike."""
    for number in itertools.count():
        file = io.BytesIO()
        colour = (number & 255, number >> 8 & 255, number >> 16)
        Image.new("RGB", (SIDE, SIDE), colour).save(file, format="PNG")
        yield file.getvalue()


def _requests() -> dict[str, Ask]:
    pictures = _pictures()
    known = next(pictures)
    return {
        "GET /corrections": lambda api, _: api.get("/corrections"),
        "GET /corrections, deep": lambda api, at: api.get(f"/corrections?cursor={at.correction()}"),
        "GET /corrections/{id}": lambda api, at: api.get(f"/corrections/{at.correction()}"),
        "GET /edit-jobs": lambda api, _: api.get("/edit-jobs"),
        "GET /edit-jobs/{id}": lambda api, at: api.get(f"/edit-jobs/{at.job()}"),
        "GET /adapters": lambda api, _: api.get("/adapters"),
        "GET /adapters/{version}": lambda api, at: api.get(f"/adapters/{at.version()}"),
        "GET /promotions": lambda api, _: api.get("/promotions"),
        "GET /metrics": lambda api, _: api.request("GET", "/metrics"),
        "POST /corrections, a new image": lambda api, _: api.correct([next(pictures)], ["a"]),
        "POST /corrections, a known image": lambda api, _: api.correct([known], ["b"]),
    }


def measure_requests(places: Sequence[tuple[str, Seeded]], *, rounds: int) -> list[Asked]:
    """`places`: URL and contents of the small and of the large database, whose history goes on.

    Raises client.ServiceEnded, client.EmendError.
    """
    requests = _requests()
    with ExitStack() as stack:
        both = [(stack.enter_context(_service(url, seeded)), seeded) for url, seeded in places]
        found = _ask(requests, both, rounds)
        doubtful = {name: requests[name] for name, one in found.items() if one.grew}
        if doubtful:  # as `measure_twice` does
            found |= _ask(doubtful, both, 2 * rounds)
    return list(found.values())


def _ask(
    requests: Mapping[str, Ask], both: Sequence[tuple[EmendClient, Seeded]], rounds: int
) -> dict[str, Asked]:
    took: dict[tuple[str, int], list[float]] = defaultdict(list)
    for turn in range(-min(WARM_UP_ROUNDS, rounds), rounds):
        for name, ask in requests.items():
            for size in (0, 1) if turn % 2 else (1, 0):
                began = time.perf_counter()
                ask(*both[size])
                if turn >= 0:
                    took[name, size].append(1000 * (time.perf_counter() - began))
    return {name: Asked(name, timing(took[name, 0]), timing(took[name, 1])) for name in requests}


def _service(url: str, seeded: Seeded) -> AbstractContextManager[EmendClient]:
    with transaction(seeded.engine) as session:
        replaced, now = live_promotion(session).id, seeded.history.now
        promote(session, 0, replaces=replaced, reason="back to the base", now=now)
    own = {"EMEND_DATABASE_URL": url, "EMEND_ARTIFACTS": seeded.store.url}
    return local_service(seeded.folder, {**SETTINGS, **own}, program="app")
