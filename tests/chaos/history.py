"""A short history in which all went well, for tests that let something go wrong in it."""

from __future__ import annotations

from chaos.evidence import (
    CorrectionFacts,
    Evidence,
    JobFacts,
    PromotionFacts,
    VersionFacts,
)
from chaos.ledger import Answer, Ledger, Promoted, SeenJob, Sent

NOON = 1_000_000.0


def sent(kind: str, names: str, *, status: int | None = 202, at: float = NOON) -> Sent:
    """A batch of one correction a letter: `a` is of image `image a`."""
    accepted = tuple(names) if status == 202 else ()
    return Sent(
        kind=kind,
        images=tuple(f"image {name}" for name in names),
        labels=tuple("apple" for _ in names),
        status=status,
        at=at,
        ids=accepted,
    )


def correction(name: str, job: str, state: str) -> CorrectionFacts:
    forgotten = state == "forgotten"
    return CorrectionFacts(
        name, None if forgotten else f"image {name}", "apple", job, state, superseded_by=None
    )


def answer(path: str = "/classify", **facts: object) -> Answer:
    """A quick 200 at noon, unless something else is said."""
    values = {
        "at": NOON,
        "seconds": 0.1,
        "api": "api-1",
        "method": "GET",
        "path": path,
        "status": 200,
        "expected": frozenset({200}),
        **facts,
    }
    return Answer(**values)  # type: ignore[arg-type]


def good_ledger() -> Ledger:
    """Seven corrections accepted, one batch refused; version 1 promoted by hand for a while."""
    return Ledger(
        sent=[
            sent("new", "ab"),
            sent("new", "c"),
            sent("new", "d"),
            sent("new", "e"),
            sent("new", "f"),
            sent("new", "g"),
            sent("broken", "xy", status=422),
        ],
        promoted=[Promoted(3, 0, NOON)],
        jobs=[SeenJob("first", "running", None, NOON), SeenJob("first", "succeeded", 1, NOON)],
        digests={0: {"base"}, 1: {"one"}},
        encoders={0: {"the base"}, 1: {"the base and one"}},
        forgotten={"f"},
        answers=[answer("/corrections/f", method="DELETE", status=204)],
    )


def good_evidence() -> Evidence:
    rows = [
        correction("a", "first", "applied"),
        correction("b", "first", "applied"),
        correction("c", "second", "applied"),
        correction("d", "third", "rejected"),
        correction("e", "fourth", "failed"),
        correction("f", "first", "forgotten"),
        correction("g", "fifth", "cancelled"),
    ]
    jobs = [
        JobFacts("first", "succeeded", 1, "all right"),
        JobFacts("second", "succeeded", 3, "all right"),
        JobFacts("third", "rejected", 2, "only 0 of 1 corrections are right"),
        JobFacts("fourth", "failed", None, "the worker stopped answering in 4 attempts"),
        JobFacts("fifth", "cancelled", None, None, cancel_requested=True),
    ]
    return Evidence(
        corrections={row.id: row for row in rows},
        jobs={job.id: job for job in jobs},
        versions=(
            VersionFacts(0, None, "base", None),
            VersionFacts(1, 0, "one", "first", frozenset("abf")),
            VersionFacts(2, 1, "two", "third", frozenset("abd")),
            VersionFacts(3, 1, "three", "second", frozenset("abc")),
        ),
        promotions=(
            PromotionFacts(1, 0, None, None, NOON - 20),
            PromotionFacts(2, 1, 1, "first", NOON - 10),
            PromotionFacts(3, 0, 2, None, NOON),
            PromotionFacts(4, 1, 3, None, NOON + 5),
            PromotionFacts(5, 3, 4, "second", NOON + 10),
        ),
        told={row.id: (200, row.state, "apple") for row in rows},
    )
