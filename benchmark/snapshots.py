"""`python -m benchmark.snapshots`: what loading a version costs, by its chain and by a snapshot.

Adapters with LoRSU's shape (its own selection, rank and fractions; random numbers instead of fitted
ones, so heads and weights are drawn evenly and a chain soon touches all that it ever can) are
stacked on each other. For each length of chain: seconds from files to an encoder, bytes read, and
the most memory taken on the way; and a proof that both ways lead to the same bits and digest.

Chains longer than `--chains-up-to` are grown and loaded by snapshot for real; what all their files
would take is told in proportion. `--above` are the adapters that a worker leaves above a snapshot.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmark.loop import RESULTS, say
from benchmark.memory import forget_peak, peak_bytes, resident_bytes
from benchmark.record import add_out, commit_of
from editing.methods import LorsuConfig
from editing.selection import select
from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder, Link, load_encoder
from encoder.deltas import Delta, LowRank, Sparse
from encoder.snapshot import Snapshot

PAPER = LorsuConfig.model_validate(LorsuConfig.PAPER)
LENGTHS = (10, 100, 1_000, 10_000)
ABOVE = 6
CHAINS_UP_TO = 1_000
VARIETY = 200
"""Different edits, made again and again: so many touch all but a few of the weights in reach."""
SECONDS_A_WAY = 20.0
"""Loads are repeated for so long, at least thrice and at most forty times."""


def synthetic_deltas(base: Encoder, *, seed: int) -> dict[str, Delta]:
    """What a LoRSU edit with the paper's budgets moves, numbers aside."""
    config, draw = PAPER, torch.Generator().manual_seed(seed)
    weights = dict(base.model.named_parameters())
    names = [name for block in base.tower.blocks for name in (*block.attention, *block.fc1)]
    gradients = {name: torch.randn(weights[name].shape, generator=draw) for name in names}
    chosen = select(base.tower, gradients, heads=config.heads, fc1_fraction=config.fc1_fraction)
    deltas: dict[str, Delta] = {}
    for name, rows in chosen.rows.items():
        assert rows is not None  # strict mode: those of some heads
        down = torch.randn(config.rank, weights[name].shape[1], generator=draw)
        up = 1e-4 * torch.randn(len(rows), config.rank, generator=draw)
        deltas[name] = LowRank(down, up, rows, config.alpha / config.rank)
    for name, mask in chosen.masks.items():
        deltas[name] = Sparse(mask, 1e-4 * torch.randn(int(mask.sum()), generator=draw))
    return deltas


def adapter_on(beneath: Encoder, deltas: dict[str, Delta], *, version: int) -> Adapter:
    """The adapter of a version that was fitted on top of the one before."""
    origin = Provenance(
        method="lorsu",
        config=PAPER.model_dump(mode="json"),
        seed=version,
        parent=version - 1,
        stacked_on=beneath.chain,
        base_name=beneath.name,
        base_pretrained=beneath.pretrained,
        base_digest=beneath.base_digest,
    )
    return Adapter(deltas, origin)


@dataclass
class Files:
    """A chain in a folder: files of adapters by version, and of snapshots of some versions."""

    folder: Path
    adapters: dict[int, str] = field(default_factory=dict)
    snapshots: dict[int, str] = field(default_factory=dict)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return digest

    def get(self, digest: str) -> bytes:
        return (self.folder / digest).read_bytes()

    def bytes_of(self, version: int, *, snapshot: int | None) -> int:
        digests = [self.adapters[number] for number in range((snapshot or 0) + 1, version + 1)]
        digests += [] if snapshot is None else [self.snapshots[snapshot]]
        return sum((self.folder / digest).stat().st_size for digest in digests)


@dataclass
class Shelf:
    """Files, and the encoder that they are for."""

    files: Files
    base: Encoder

    def load(self, version: int, *, snapshot: int | None) -> Encoder:
        """A version from all of its adapters, or from a snapshot of an earlier one on."""
        return self.base.merged(self._links(version, snapshot))

    def _links(self, version: int, snapshot: int | None) -> Iterator[Link]:
        if snapshot is not None:
            digest, base_digest = self.files.snapshots[snapshot], self.base.base_digest
            data = self.files.get(digest)
            yield Snapshot.from_bytes(data, digest=digest, base_digest=base_digest)
        for number in range((snapshot or 0) + 1, version + 1):
            digest = self.files.adapters[number]
            yield Adapter.from_bytes(self.files.get(digest), digest=digest)


def grow(shelf: Shelf, lengths: tuple[int, ...], *, above: int, chains_up_to: int) -> None:
    """Stacks adapters up to the greatest of `lengths`; keeps the files that loads will ask for."""
    stops = {*lengths, *(length - above for length in lengths)}
    encoder = shelf.base
    variety = [synthetic_deltas(encoder, seed=seed) for seed in range(min(VARIETY, max(lengths)))]
    for version in range(1, max(lengths) + 1):
        adapter = adapter_on(encoder, variety[version % len(variety)], version=version)
        encoder = encoder.merged([adapter])
        wanted = any(length - above < version <= length for length in lengths)
        if wanted or version <= chains_up_to:
            shelf.files.adapters[version] = shelf.files.put(adapter.to_bytes())
        if version in stops:
            data = shelf.base.snapshot_of(encoder).to_bytes()
            shelf.files.snapshots[version] = shelf.files.put(data)
        if version in lengths:
            say(f"{version} adapters are stacked")


def seconds_of(load: Callable[[], object]) -> float:
    begun = time.perf_counter()
    load()
    return time.perf_counter() - begun


def peak_bytes_of(load: Callable[[], object]) -> int:
    """Resident memory at its highest during a load, above that before. For Linux with glibc."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what former loads left at hand would hide the need
    forget_peak()
    before = resident_bytes()
    load()
    return peak_bytes() - before


def measure_way(shelf: Shelf, version: int, *, snapshot: int | None) -> dict[str, Any]:
    """Seconds, bytes and memory of one way to load one version."""

    def load() -> object:
        return shelf.load(version, snapshot=snapshot)

    first = seconds_of(load)
    repeats = min(max(math.ceil(SECONDS_A_WAY / first), 3), 40)
    seconds = [seconds_of(load) for _ in range(repeats)]
    return {
        "adapters": version - (snapshot or 0),
        "seconds": round(median(seconds), 5),
        "fastest": round(min(seconds), 5),
        "slowest": round(max(seconds), 5),
        "repeats": repeats,
        "bytes": shelf.files.bytes_of(version, snapshot=snapshot),
        "peak_bytes": peak_bytes_of(load),
    }


def in_proportion(way: dict[str, Any], length: int) -> dict[str, Any]:
    """A chain that was not loaded, from a shorter one: its time and files grow with its length."""
    factor = length / way["adapters"]
    return {
        "adapters": length,
        "seconds": round(way["seconds"] * factor, 1),
        "bytes": round(way["bytes"] * factor),
        "in_proportion_to": way["adapters"],
    }


def measure(
    shelf: Shelf, lengths: tuple[int, ...], *, above: int, chains_up_to: int
) -> dict[str, Any]:
    """Every way to load each version, by its number."""
    found: dict[str, Any] = {}
    longest: dict[str, Any] = {}
    for length in lengths:
        ways: dict[str, Any] = {
            "snapshot": measure_way(shelf, length, snapshot=length),
            "snapshot_and_above": measure_way(shelf, length, snapshot=length - above),
        }
        if length <= chains_up_to:
            longest = ways["chain"] = measure_way(shelf, length, snapshot=None)
            ways["same_bits"] = same_bits(shelf, length, above=above)
        else:
            ways["chain"] = in_proportion(longest, length)
        found[str(length)] = ways
        say(f"version {length}: {json.dumps(ways)}")
    return found


def same_bits(shelf: Shelf, version: int, *, above: int) -> bool:
    """Whether all ways give the same digest and the same bits in every weight."""
    by_chain, *others = (
        shelf.load(version, snapshot=snapshot) for snapshot in (None, version, version - above)
    )
    expected = _bits(by_chain)
    return all(other.digest == by_chain.digest and _bits(other) == expected for other in others)


def _bits(encoder: Encoder) -> dict[str, bytes]:
    weights = encoder.model.named_parameters()
    return {
        name: weight.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, weight in weights
    }


def compare(shelf: Shelf, short: int, long: int, *, above: int) -> dict[str, Any]:
    """Version `short` by its chain against version `long` as a worker leaves it, in turns."""
    ways: dict[str, Callable[[], object]] = {
        "short": lambda: shelf.load(short, snapshot=None),
        "long": lambda: shelf.load(long, snapshot=long - above),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(30):
        for name, load in ways.items():
            seconds[name].append(seconds_of(load))
    medians = {name: median(values) for name, values in seconds.items()}
    return {
        "short": short,
        "long": long,
        "seconds_short": round(medians["short"], 5),
        "seconds_long": round(medians["long"], 5),
        "ratio": round(medians["long"] / medians["short"], 3),
    }


def run(encoder: str, lengths: tuple[int, ...], *, above: int, chains_up_to: int) -> dict[str, Any]:
    """The whole benchmark; its files are gone at the end."""
    base = load_encoder(encoder)
    with tempfile.TemporaryDirectory(prefix="emend-snapshots-") as folder:
        shelf = Shelf(Files(Path(folder)), base)
        grow(shelf, lengths, above=above, chains_up_to=chains_up_to)
        return {
            "encoder": encoder,
            "encoder_bytes": base.parameter_bytes,
            "threads": torch.get_num_threads(),
            "above": above,
            "versions": measure(shelf, lengths, above=above, chains_up_to=chains_up_to),
            "comparison": compare(shelf, min(lengths), max(lengths), above=above),
        }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmark.snapshots")
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--above", type=int, default=ABOVE)
    parser.add_argument("--chains-up-to", type=int, default=CHAINS_UP_TO)
    parser.add_argument("--threads", type=int, default=1)
    add_out(parser, RESULTS)
    options = parser.parse_args(arguments)
    tree = commit_of(parser, options.out, allow_dirty=options.allow_dirty)
    torch.set_num_threads(options.threads)
    lengths = tuple(sorted(options.lengths))
    result = run(options.encoder, lengths, above=options.above, chains_up_to=options.chains_up_to)
    path = options.out / "snapshots.json"
    path.write_text(json.dumps({"commit": tree, **result}, indent=1) + "\n")
    say(f"ratio {result['comparison']['ratio']}, in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
