"""A long life of a service, as rows: deterministic by its seed, so that no row need be looked up.

A cycle is a hundred corrections: nine jobs that failed or were cancelled gather them, a tenth takes
them all up and makes a version. Some versions are refused, some are rolled back: then the next
cycle's job takes their corrections up again. Some corrections are superseded or forgotten. Behind
the last cycle stand what every service has at any time, however old it is: corrections that came to
nothing so far, jobs that are due, a job that gathers.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

PER_VERSION = 100
JOBS_PER_VERSION = 10
PER_FAILED_JOB = 11
LEFT_OVER, DUE_JOBS, PER_DUE_JOB, GATHERING = 200, 5, 10, 10
PREDICTIONS = 2_000
LABELS = 500
SNAPSHOT_EVERY = 64
REPLAYED, REFITTED, REFIT_EVERY = 20, 500, 1_000
REFUSED, ROLLED_BACK = 0.10, 0.02
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
BETWEEN = timedelta(seconds=6)
BASE_DIGEST = hashlib.sha256(b"the base encoder of a long life").hexdigest()


@dataclass(frozen=True)
class Version:
    """What cycle `number` made. `cycles`: whose corrections its job took up, its own included."""

    number: int
    parent: int
    stacked_on: int | None
    depth: int
    accepted: bool
    rolled_back: bool
    cycles: tuple[int, ...]

    @property
    def has_snapshot(self) -> bool:
        """As idle workers would have made them, but for the live version's."""
        return self.depth % SNAPSHOT_EVERY == 0

    @property
    def stays(self) -> bool:
        """Whether the next version has it as its parent."""
        return self.accepted and not self.rolled_back


@dataclass(frozen=True)
class History:
    """A life of `versions` cycles; corrections are numbered from 0, jobs and versions from 1."""

    versions: int
    seed: int
    base_digest: str = BASE_DIGEST

    @property
    def settled(self) -> int:
        """Corrections of the cycles; all of them are in the live version's lineage."""
        return self.versions * PER_VERSION

    @property
    def corrections(self) -> int:
        return self.settled + LEFT_OVER + DUE_JOBS * PER_DUE_JOB + GATHERING

    @property
    def cycle_jobs(self) -> int:
        return self.versions * JOBS_PER_VERSION

    @property
    def jobs(self) -> int:
        return self.cycle_jobs + 1 + DUE_JOBS + 1

    @property
    def now(self) -> datetime:
        """Just after the last row."""
        return self.at(self.corrections)

    @cached_property
    def life(self) -> list[Version]:
        """Version 1 first."""
        chance = random.Random(self.seed)
        live, pending, found = 0, tuple[int, ...](), list[Version]()
        for number in range(1, self.versions + 1):
            luck = 1.0 if number == self.versions else chance.random()
            refit = number * PER_VERSION <= REFITTED or number % REFIT_EVERY == 0
            stacked_on = None if refit or live == 0 else live
            version = Version(
                number,
                parent=live,
                stacked_on=stacked_on,
                depth=1 if stacked_on is None else 1 + found[stacked_on - 1].depth,
                accepted=luck >= REFUSED,
                rolled_back=REFUSED <= luck < REFUSED + ROLLED_BACK,
                cycles=(*pending, number),
            )
            found.append(version)
            live, pending = (number, ()) if version.stays else (live, version.cycles)
        return found

    @cached_property
    def compacted(self) -> list[int]:
        """The versions that have a snapshot."""
        return [one.number for one in self.life if one.has_snapshot or one is self.life[-1]]

    @cached_property
    def promoted(self) -> list[int]:
        """The version of each promotion after the first, which made the base live."""
        versions = list[int]()
        for version in self.life:
            if version.accepted:
                versions += (
                    [version.number, version.parent] if version.rolled_back else [version.number]
                )
        return versions

    @cached_property
    def taken_up_by(self) -> dict[int, int]:
        """Cycle → the last version that took its corrections up."""
        return {cycle: version.number for version in self.life for cycle in version.cycles}

    def at(self, correction: int) -> datetime:
        return BEGIN + correction * BETWEEN

    def correction_id(self, number: int) -> str:
        return _identity(self.at(number), number)

    def job_id(self, number: int) -> str:
        return _identity(BEGIN + number * 10 * BETWEEN, number)

    def image(self, number: int) -> str:
        """Its hash; a correction that supersedes another has that one's image."""
        return _sha256(f"{self.seed} image {self.superseded(number) or number}")

    def label(self, number: int) -> str:
        step = 7 if self.superseded(number) is None else 11
        return f"label {number * step % LABELS}"

    def superseded(self, number: int) -> int | None:
        """The correction that this one replaced."""
        return number - 100 if number % 200 == 137 and number < self.settled else None

    def superseded_by(self, number: int) -> int | None:
        later = number + 100
        return later if number % 200 == 37 and later < self.settled else None

    def forgotten(self, number: int) -> bool:
        return number % 100 == 63 and number < self.settled

    def stands(self, number: int) -> bool:
        return not self.forgotten(number) and self.superseded_by(number) is None

    def some(self, chance: random.Random, count: int) -> list[int]:
        """Distinct corrections that stand and are in the live version."""
        drawn = chance.sample(range(self.settled), min(2 * count, self.settled))
        return [number for number in drawn if self.stands(number)][:count]

    def final_job(self, cycle: int) -> int:
        return cycle * JOBS_PER_VERSION

    def gathered(self, job: int) -> range:
        """The corrections that were sent into a job."""
        cycle, place = divmod(job - 1, JOBS_PER_VERSION)
        first = cycle * PER_VERSION
        if job <= self.cycle_jobs:
            begin = first + place * PER_FAILED_JOB
            return range(begin, min(begin + PER_FAILED_JOB, first + PER_VERSION))
        begin = self.settled
        sizes = [LEFT_OVER, *[PER_DUE_JOB] * DUE_JOBS, GATHERING]
        before = sum(sizes[: job - self.cycle_jobs - 1])
        return range(begin + before, begin + before + sizes[job - self.cycle_jobs - 1])

    def joined(self, job: int) -> list[int]:
        """Every correction that joined a job, taken up or sent."""
        if job > self.cycle_jobs or job % JOBS_PER_VERSION:
            return list(self.gathered(job))
        cycles = self.life[job // JOBS_PER_VERSION - 1].cycles
        return [
            number
            for cycle in cycles
            for number in range((cycle - 1) * PER_VERSION, cycle * PER_VERSION)
        ]

    def latest_job(self, number: int) -> int:
        """The job that a correction joined last."""
        if number < self.settled:
            return self.final_job(self.taken_up_by[number // PER_VERSION + 1])
        tail = range(self.cycle_jobs + 1, self.jobs + 1)
        return next(job for job in tail if number in self.gathered(job))

    def fitted(self, version: Version) -> list[int]:
        """New corrections and a draw of earlier ones."""
        new = self.joined(self.final_job(version.number))
        room = REPLAYED if version.stacked_on is not None else REFITTED
        chance = random.Random(f"{self.seed} version {version.number}")
        return new + sorted(chance.sample(range(new[0]), min(room, new[0])))

    def adapter_digest(self, version: int) -> str:
        return _sha256(f"{self.seed} adapter {version}")

    def snapshot_digest(self, version: int) -> str:
        return _sha256(f"{self.seed} snapshot {version}")

    def control_image(self, number: int) -> str:
        return _sha256(f"{self.seed} control {number}")

    def prediction_id(self, number: int) -> str:
        return _identity(self.now - timedelta(seconds=PREDICTIONS - number), number)

    def predicted_images(self) -> Iterator[str]:
        return (_sha256(f"{self.seed} prediction {number}") for number in range(PREDICTIONS))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(at: datetime, number: int) -> str:
    """As `registry.identity.new_id`, without chance."""
    milliseconds = int(at.timestamp() * 1000)
    return f"{milliseconds << 80 | 7 << 76 | 0b10 << 62 | number:032x}"
