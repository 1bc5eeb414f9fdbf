"""`python -m benchmark.growth`: seeds 10 k and 1 M corrections, measures both side by side.

Exits with 1 when an operation that must be flat has grown, or when it cannot run.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.growth import report
from benchmark.growth.history import BASE_DIGEST, PER_VERSION, History
from benchmark.growth.measure import ALLOWED_RATIO, NOISE_MS, Measured, measure_twice
from benchmark.growth.operations import Seeded
from benchmark.growth.over_http import NOISE_MS as HTTP_NOISE_MS
from benchmark.growth.over_http import SETTINGS, Asked, measure_requests
from benchmark.growth.reading import ONCE_A_JOB, READING
from benchmark.growth.seed import DatabaseNotEmpty, seconds_to_migrate, seed_database, size_of
from benchmark.growth.writing import BY_REQUEST, WRITING
from benchmark.loop import say
from benchmark.record import add_out, commit_of
from client import EmendError, ServiceEnded
from encoder.clip import load_encoder
from registry.artifacts import ArtifactStore
from registry.errors import RegistryError
from servers.errors import ServerFailed
from servers.postgres import create_database, running_server

RESULTS = Path(__file__).parent.parent / "results"
OPERATIONS = (*READING, *WRITING, *BY_REQUEST, *ONCE_A_JOB)


@dataclass(frozen=True)
class Found:
    """What a run found; `asked` is empty where no request was measured."""

    measured: Sequence[Measured]
    looked_at_again: Sequence[str]
    asked: Sequence[Asked]
    sizes: dict[str, dict[str, Any]]

    @property
    def grown(self) -> list[str]:
        """Names of what must be flat and is not."""
        return [one.operation.name for one in self.measured if one.grew] + [
            one.name for one in self.asked if one.grew
        ]


@contextmanager
def databases(urls: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """Two empty databases: those named, or of a server that lives as long. Raises ServerFailed."""
    if urls:
        yield urls
        return
    with running_server() as server:
        yield [create_database(server, name) for name in ("small", "large")]


def fill(url: str, history: History, folder: Path) -> tuple[Seeded, dict[str, Any]]:
    """Seed one database; and what that took. Raises DatabaseNotEmpty, RegistryError."""
    store, began = ArtifactStore(folder / "artifacts"), time.monotonic()
    engine = seed_database(url, history, store, say=say)
    facts = {
        "corrections": history.corrections,
        "adapters": history.versions,
        "jobs": history.jobs,
        "seconds_to_seed": round(time.monotonic() - began, 1),
        "database_bytes": size_of(url),
    }
    say(f"{facts}")
    return Seeded(history, engine, store, folder, random.Random(history.seed)), facts


def run(urls: Sequence[str], sizes: Sequence[int], *, seed: int, rounds: int, http: bool) -> Found:
    """Both databases filled and measured.

    Raises DatabaseNotEmpty, RegistryError, ServiceEnded, EmendError.
    """
    base = load_encoder(SETTINGS["EMEND_ENCODER"]).base_digest if http else BASE_DIGEST
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emend-growth-")))
        filled = []
        for url, corrections in zip(urls, sizes, strict=True):
            history = History(corrections // PER_VERSION, seed, base)
            filled.append(fill(url, history, folder / str(corrections)))
            stack.callback(filled[-1][0].engine.dispose)
        (small, _), (large, _) = filled
        measured, looked_at_again = measure_twice(OPERATIONS, small, large, rounds=rounds)
        asked = []
        if http:
            places = list(zip(urls, (small, large), strict=True))
            asked = measure_requests(places, rounds=rounds)
        for url, (_, facts) in zip(urls, filled, strict=True):
            facts["seconds_to_migrate"] = seconds_to_migrate(url)
    names = ("small", "large")
    sizes_found = {name: facts for name, (_, facts) in zip(names, filled, strict=True)}
    return Found(measured, looked_at_again, asked, sizes_found)


def write(found: Found, folder: Path, **about: Any) -> None:
    """The numbers as JSON, the plans as text."""
    facts = {
        **about,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "allowed_p95_ratio": ALLOWED_RATIO,
        "noise_ms": NOISE_MS,
        "http_noise_ms": HTTP_NOISE_MS,
        **found.sizes,
        "grown": found.grown,
        "looked_at_again": found.looked_at_again,
        "operations": [one.facts() for one in found.measured],
        "requests": [one.facts() for one in found.asked],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "growth.json").write_text(json.dumps(facts, indent=1) + "\n")
    (folder / "growth-plans.txt").write_text(report.plans(found.measured))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see `python -m benchmark.growth --help`."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmark.growth")
    parser.add_argument(
        "--database-url",
        nargs=2,
        metavar=("SMALL", "LARGE"),
        help="two empty PostgreSQL databases (default: of a server started for the run)",
    )
    parser.add_argument("--corrections", nargs=2, type=int, default=(10_000, 1_000_000))
    parser.add_argument("--rounds", type=int, default=200, help="how often each is measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--http", action=argparse.BooleanOptionalAction, default=True, help="requests too"
    )
    add_out(parser, RESULTS)
    options = parser.parse_args(arguments)
    tree, seed, rounds = (
        commit_of(parser, options.out, allow_dirty=options.allow_dirty),
        options.seed,
        options.rounds,
    )
    say(f"seed {seed}")
    try:
        with databases(options.database_url) as urls:
            found = run(urls, options.corrections, seed=seed, rounds=rounds, http=options.http)
    except (DatabaseNotEmpty, RegistryError, ServerFailed, ServiceEnded, EmendError) as problem:
        print(f"benchmark stopped: {problem}", file=sys.stderr)
        return 1
    write(found, options.out, seed=seed, commit=tree, rounds=rounds)
    print(report.table(found.measured), report.requests(found.asked), sep="\n\n")
    print(f"grown: {', '.join(found.grown) or 'nothing'}")
    return 1 if found.grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
