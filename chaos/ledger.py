"""What clients were told, written down while the storm lasts. Nothing here comes from the service's
own memory: it is what an auditor holds against it afterwards.

Times are `time.time()` seconds of one clock, the machine's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """One request and what came of it. `status` None: no answer, `trouble` says why."""

    at: float
    seconds: float
    api: str
    method: str
    path: str
    status: int | None
    expected: frozenset[int]
    """Besides these every request may be answered 503, and one that stores something 507."""
    problem: str | None = None
    """Type of a problem document; None where the body is none."""
    retry_after: str | None = None
    version: int | None = None
    """X-Adapter-Version."""
    trouble: str | None = None
    question: str | None = None
    """`live` where the live encoder was asked."""

    @property
    def ended(self) -> float:
        return self.at + self.seconds


@dataclass(frozen=True)
class Sent:
    """A batch of corrections as it was sent, and how it ended after all its re-sending.

    `images` are sha256s of what was sent, in order; `status` is that of the last answer, None where
    none came; `ids` are those of the 202, in order.
    """

    kind: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    status: int | None
    at: float
    """When the last answer came."""
    unclear: bool = False
    """Whether an earlier try ended without an answer, or with a 503: it may have been stored."""
    ids: tuple[str, ...] = ()

    def label_of(self, correction: str) -> str | None:
        """The label that was sent for what got this id."""
        return dict(zip(self.ids, self.labels, strict=False)).get(correction)

    def image_of(self, correction: str) -> str | None:
        """The image that was sent for what got this id."""
        return dict(zip(self.ids, self.images, strict=False)).get(correction)


@dataclass(frozen=True)
class Promoted:
    """A promotion that was answered 201."""

    id: int
    version: int
    at: float


@dataclass(frozen=True)
class SeenJob:
    """A job as one answer told it."""

    id: str
    status: str
    adapter: int | None
    at: float


@dataclass(frozen=True)
class Lie:
    """An answer that contradicts an earlier one, found while the storm was on."""

    what: str
    at: float


@dataclass
class Ledger:
    """Written by every client at once."""

    answers: list[Answer] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    promoted: list[Promoted] = field(default_factory=list)
    jobs: list[SeenJob] = field(default_factory=list)
    digests: dict[int, set[str]] = field(default_factory=dict)
    """Every digest under which a version was described."""
    encoders: dict[int, set[str]] = field(default_factory=dict)
    """Every digest of an encoder that answered as a version."""
    forgotten: set[str] = field(default_factory=set)
    """Corrections whose DELETE was sent, whatever the answer."""
    lies: list[Lie] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, *entries: Answer | Sent | Promoted | SeenJob | Lie) -> None:
        pages = {
            Answer: self.answers,
            Sent: self.sent,
            Promoted: self.promoted,
            SeenJob: self.jobs,
            Lie: self.lies,
        }
        with self._lock:
            for entry in entries:
                pages[type(entry)].append(entry)  # type: ignore[attr-defined]

    def note_digest(self, version: int, digest: str) -> None:
        with self._lock:
            self.digests.setdefault(version, set()).add(digest)

    def note_encoder(self, version: int, digest: str) -> None:
        with self._lock:
            self.encoders.setdefault(version, set()).add(digest)

    def note_forgetting(self, correction_id: str) -> None:
        with self._lock:
            self.forgotten.add(correction_id)

    def accepted(self) -> dict[str, Sent]:
        """Every correction that was answered 202, with the batch that brought it first."""
        with self._lock:
            return accepted_in(self.sent)

    def count_accepted(self) -> int:
        return len(self.accepted())


def accepted_in(sent: Sequence[Sent]) -> dict[str, Sent]:
    """Ids of corrections that were answered 202, each with the first batch that has it."""
    found: dict[str, Sent] = {}
    for batch in sent:
        if batch.status == 202:
            for one in batch.ids:
                found.setdefault(one, batch)
    return found
