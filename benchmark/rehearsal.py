"""Jobs one after another in one process, on training tracks: how settings are chosen.

What a job is, and what stays closed, is told in `benchmark.jobs`. A killed run goes on after its
last job.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from benchmark.datasets.missing import DataSetError
from benchmark.edit_store import EditStore
from benchmark.eyes import Eyes
from benchmark.jobs import Bed, Signs, edit_once, load_bed, options_of, percent_right
from benchmark.lab import Lab
from benchmark.loop import say
from benchmark.methods import parse
from benchmark.metrics import flips, percent
from benchmark.record import DirtyTree, check_out, code_digest, libraries, write_json
from editing.errors import EditError
from editing.methods import MethodConfig
from encoder.clip import Encoder
from encoder.errors import EncoderError


@dataclass(frozen=True)
class Begun:
    """What jobs told so far, and the encoder that they left."""

    jobs: tuple[dict[str, Any], ...]
    live: Encoder

    def taught(self, bed: Bed) -> Signs:
        """Of the jobs that were promoted."""
        promoted = [
            new
            for new, job in zip(bed.batches, self.jobs, strict=False)
            if job["verdict"] == "promoted"
        ]
        return sum(promoted, bed.batches[0].at([]))


Keep: TypeAlias = Callable[[Begun], None]


class Kept:
    """A rehearsal on disk: its result so far, and its live encoder in a working folder."""

    def __init__(self, path: Path, work: Path, head: Mapping[str, Any]) -> None:
        """`head`: what stands before the jobs; all but the commit must agree to go on."""
        self.path, self._head = path, dict(head)
        self._store, self._key = EditStore(work), path.stem

    def find(self, base: Encoder) -> Begun | None:
        """What a killed run of the same settings left."""
        if not self.path.exists():
            return None
        told = json.loads(self.path.read_text("utf-8"))
        jobs = tuple(told.get("jobs", ()))
        try:
            found = self._store.find(self._key, base, self._facts(len(jobs)))
        except EncoderError:  # killed between the snapshot and its facts
            return None
        same = all(
            told.get(name) == value for name, value in self._head.items() if name != "commit"
        )
        return Begun(jobs, found[0]) if found and same else None

    def keep(self, base: Encoder, begun: Begun) -> None:
        """The result last: it says what there is."""
        self._store.save(self._key, base, begun.live, self._facts(len(begun.jobs)))
        write_json(self.path, {**self._head, "jobs": list(begun.jobs)})

    def _facts(self, jobs: int) -> dict[str, Any]:
        return {**{k: v for k, v in self._head.items() if k != "commit"}, "done": jobs}


def rehearse(
    bed: Bed,
    config: MethodConfig,
    *,
    jobs: int,
    seed: int,
    begun: Begun | None = None,
    keep: Keep = lambda _: None,
) -> list[dict[str, Any]]:
    """Run the first `jobs` batches, after those of `begun`; `keep` is told after each.

    A refused edit is left out, as in the service. Raises EditError.
    """
    done = begun or Begun((), bed.base)
    before = bed.wide.answers(Eyes(bed.base).embed(bed.wide.pixels))
    for number, new in list(enumerate(bed.batches[:jobs], start=1))[len(done.jobs) :]:
        began = time.monotonic()
        live, earlier = done.live, done.taught(bed)
        candidate, facts = edit_once(bed, config, live, new, earlier, seed)
        seconds = round(time.monotonic() - began)
        if facts["verdict"] == "promoted":
            live, earlier = candidate, earlier + new
        measured = _measured(bed, live, before, taught=earlier)
        job = {"job": number, "seconds": seconds, **facts, **measured}
        done = Begun((*done.jobs, job), live)
        keep(done)
        say(_line(job))
    return list(done.jobs)


def _measured(bed: Bed, encoder: Encoder, before: Tensor, *, taught: Signs) -> dict[str, float]:
    """Percent: right on validation photos of the classes taught so far, and of all; flipped on
    `wide`, against the base's answers `before`, long [M]. All asked by `Eyes`, in bf16."""
    eyes = Eyes(encoder)
    answers = (eyes.embed(bed.validation.pixels) @ bed.texts.T).argmax(dim=1)
    right = answers == bed.validation.targets
    known = torch.isin(bed.validation.targets, taught.targets)
    after = bed.wide.answers(eyes.embed(bed.wide.pixels))
    return {
        "wide_flips": round(flips(before, after), 1),
        "validation_taught": round(percent(right[known]), 1) if bool(known.any()) else 0.0,
        "validation_all": round(percent(right), 1),
    }


def _line(job: dict[str, Any]) -> str:
    changes = ", ".join(
        f"{each['name']} {each['after'] - each['before']:+.1f} ({each['flips']:.1f} % flips)"
        for each in job["controls"]
    )
    return (
        f"job {job['job']} {job['verdict']} at {job['strength']:g} after {job['seconds']} s: "
        f"corrections {job['corrections']['after']:.1f}, "
        f"validation {job['validation_taught']} (all {job['validation_all']}), {changes}"
    )


def main() -> int:
    """Command line: see ``python -m benchmark.rehearsal --help``."""
    parser = options_of("rehearsal", __doc__)
    parser.add_argument("--updates", type=int, default=5, help="jobs in which the classes come")
    parser.add_argument("--jobs", type=int, help="of these, how many; all if not said")
    parser.add_argument("--shots", type=int, default=20, help="training photos a class")
    work = Path(tempfile.gettempdir()) / "emend-benchmark" / "rehearsal"
    parser.add_argument("--work", type=Path, default=work, help="folder of what is under way")
    options = parser.parse_args()
    path = options.out / f"rehearsal-{options.name}-seed{options.seed}.json"
    try:
        config = parse(options.method, json.loads(options.config))
        at = check_out(path, allow_dirty=options.allow_dirty)
        lab = Lab(options.lab)
        bed = load_bed(lab, shots=options.shots, seed=options.seed, updates=options.updates)
        head = {
            "name": options.name,
            "method": options.method,
            "config": config.model_dump(mode="json"),
            "shots": options.shots,
            "updates": options.updates,
            "seed": options.seed,
            "commit": at,
            "libraries": libraries(),
            "base": bed.base.digest,
            "zero_shot": percent_right(bed.base, bed.validation, bed.texts),
        }
        kept = Kept(path, options.work / code_digest(), head)
        begun = kept.find(bed.base)
        if begun:
            say(f"goes on after job {len(begun.jobs)}")
        rehearse(
            bed,
            config,
            jobs=options.jobs or options.updates,
            seed=options.seed,
            begun=begun,
            keep=lambda done: kept.keep(bed.base, done),
        )
    except (DataSetError, DirtyTree, EditError, EncoderError, json.JSONDecodeError) as problem:
        print(f"rehearsal stopped: {problem}")
        return 1
    say(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
