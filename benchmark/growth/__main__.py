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

from sqlalchemy import Engine

from benchmark.growth import report
from benchmark.growth.history import PER_VERSION, History
from benchmark.growth.measure import ALLOWED_RATIO, NOISE_MS, Measured, measure
from benchmark.growth.operations import Seeded
from benchmark.growth.reading import ONCE_A_JOB, READING
from benchmark.growth.seed import DatabaseNotEmpty, seconds_to_migrate, seed_database, size_of
from benchmark.growth.writing import BY_REQUEST, WRITING
from benchmark.loop import commit, say
from registry.artifacts import ArtifactStore
from registry.errors import RegistryError
from servers.errors import ServerFailed
from servers.postgres import create_database, running_server

RESULTS = Path(__file__).parent.parent / "results"
OPERATIONS = (*READING, *WRITING, *BY_REQUEST, *ONCE_A_JOB)


@dataclass(frozen=True)
class Place:
    """A seeded database and what it took."""

    seeded: Seeded
    facts: dict[str, Any]


@contextmanager
def databases(urls: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """Two empty databases: those named, or of a server that lives as long. Raises ServerFailed."""
    if urls:
        yield urls
        return
    with running_server() as server:
        yield [create_database(server, name) for name in ("small", "large")]


def fill(url: str, history: History, folder: Path) -> Place:
    """Seed one database. Raises DatabaseNotEmpty, RegistryError."""
    store, began = ArtifactStore(folder), time.monotonic()
    engine: Engine = seed_database(url, history, store, say=say)
    facts = {
        "corrections": history.corrections,
        "adapters": history.versions,
        "jobs": history.jobs,
        "seconds_to_seed": round(time.monotonic() - began, 1),
        "database_bytes": size_of(url),
    }
    say(f"{facts}")
    return Place(Seeded(history, engine, store, random.Random(history.seed)), facts)


def run(
    urls: Sequence[str], sizes: Sequence[int], *, seed: int, rounds: int
) -> tuple[list[Measured], dict[str, Any]]:
    """Both databases filled and measured. Raises DatabaseNotEmpty, RegistryError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emend-growth-")))
        places = []
        for url, corrections in zip(urls, sizes, strict=True):
            history = History(corrections // PER_VERSION, seed)
            place = fill(url, history, folder / str(corrections))
            stack.callback(place.seeded.engine.dispose)
            places.append(place)
        small, large = places
        measured = measure(OPERATIONS, small.seeded, large.seeded, rounds=rounds)
        for url, place in zip(urls, places, strict=True):
            place.facts["seconds_to_migrate"] = seconds_to_migrate(url)
    return measured, {"small": small.facts, "large": large.facts}


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
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    tree = commit()
    say(f"seed {options.seed}")
    try:
        with databases(options.database_url) as urls:
            measured, sizes = run(
                urls, options.corrections, seed=options.seed, rounds=options.rounds
            )
    except (DatabaseNotEmpty, RegistryError, ServerFailed) as problem:
        print(f"benchmark stopped: {problem}", file=sys.stderr)
        return 1
    grown = [one.operation.name for one in measured if one.grew]
    facts = {
        "seed": options.seed,
        "commit": tree,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "allowed_p95_ratio": ALLOWED_RATIO,
        "noise_ms": NOISE_MS,
        **sizes,
        "grown": grown,
        "operations": [one.facts() for one in measured],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "growth.json").write_text(json.dumps(facts, indent=1) + "\n")
    (options.out / "growth-plans.txt").write_text(report.plans(measured))
    print(report.table(measured))
    print(f"grown: {', '.join(grown) or 'nothing'}")
    return 1 if grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
