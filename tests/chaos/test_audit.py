"""An audit that cannot fail is worthless: every kind of loss is fed to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chaos.audit import audit
from chaos.evidence import Evidence, JobFacts, PromotionFacts, VersionFacts
from chaos.ledger import Ledger, Lie, Promoted, SeenJob
from tests.chaos.history import NOON, correction, good_evidence, good_ledger, sent

ACCOUNTED = "every correction answered 202 is live or has a stated reason"
TOLD = "the API tells of every accepted correction as it is"
WHOLE = "a batch is accepted whole or refused whole"
ONCE = "no adapter version twice, none missing"
CHAIN = "no promotion is lost or forked"
ENDS = "jobs end once"
RECEIPTS = "a receipt for every image, and for that image"
ENCODERS = "one encoder a version, at every API"
Change = Callable[[Ledger, Evidence], Evidence]


def rules(ledger: Ledger, evidence: Evidence) -> set[str]:
    return {violation.rule for violation in audit(ledger, evidence)}


def test_nothing_is_wrong_with_a_good_history() -> None:
    assert audit(good_ledger(), good_evidence()) == []


def correction_is(name: str, job: str, state: str) -> Change:
    """Row and answer agree on it."""

    def change(_: Ledger, evidence: Evidence) -> Evidence:
        row = correction(name, job, state)
        return replace(
            evidence,
            corrections={**evidence.corrections, name: row},
            told={**evidence.told, name: (200, state, "apple")},
        )

    return change


def job_is(job: JobFacts) -> Change:
    return lambda _, evidence: replace(evidence, jobs={**evidence.jobs, job.id: job})


def without(**gone: Any) -> Change:
    """Leaves out correction, version or promotion."""

    def change(_: Ledger, evidence: Evidence) -> Evidence:
        return replace(
            evidence,
            corrections={
                name: row
                for name, row in evidence.corrections.items()
                if name != gone.get("correction")
            },
            versions=tuple(row for row in evidence.versions if row.version != gone.get("version")),
            promotions=tuple(row for row in evidence.promotions if row.id != gone.get("promotion")),
        )

    return change


def never_learnt(name: str) -> Change:
    """No version was fitted on it, whatever its job says."""
    return lambda _, evidence: replace(
        evidence,
        versions=tuple(
            replace(row, corrections=row.corrections - {name}) for row in evidence.versions
        ),
    )


def with_version(version: VersionFacts) -> Change:
    return lambda _, evidence: replace(evidence, versions=(*evidence.versions, version))


def with_promotion(row: PromotionFacts) -> Change:
    return lambda _, evidence: replace(evidence, promotions=(*evidence.promotions, row))


def ledger_notes(*entries: Any) -> Change:
    def change(ledger: Ledger, evidence: Evidence) -> Evidence:
        ledger.note(*entries)
        return evidence

    return change


def told(name: str, *said: Any) -> Change:
    return lambda _, evidence: replace(evidence, told={**evidence.told, name: said})


def another_digest(ledger: Ledger, evidence: Evidence) -> Evidence:
    ledger.note_digest(1, "something else")
    return evidence


def answered_by(version: int, digest: str) -> Change:
    def change(ledger: Ledger, evidence: Evidence) -> Evidence:
        ledger.note_encoder(version, digest)
        return evidence

    return change


def is_of(name: str, image: str) -> Change:
    return lambda _, evidence: replace(
        evidence,
        corrections={
            **evidence.corrections,
            name: replace(evidence.corrections[name], image=image),
        },
    )


def not_asked_to_forget(ledger: Ledger, evidence: Evidence) -> Evidence:
    ledger.forgotten.clear()
    return evidence


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        # corrections
        (ACCOUNTED, without(correction="a")),
        (ACCOUNTED, never_learnt("a")),
        (ACCOUNTED, without(promotion=5)),
        (ACCOUNTED, correction_is("d", "sixth", "pending")),
        (ACCOUNTED, job_is(JobFacts("third", "rejected", 2, None))),
        (ACCOUNTED, job_is(JobFacts("fourth", "failed", None, ""))),
        (ACCOUNTED, job_is(JobFacts("fifth", "cancelled", None, None))),
        (ACCOUNTED, job_is(JobFacts("third", "succeeded", 2, "all right"))),
        (ACCOUNTED, correction_is("a", "first", "superseded")),
        (ACCOUNTED, not_asked_to_forget),
        # what is told of them
        (TOLD, told("a", 404, "None", "None")),
        (TOLD, told("d", 200, "applied", "apple")),
        (TOLD, told("d", 200, "rejected", "leaf")),
        # batches
        (WHOLE, correction_is("x", "first", "applied")),
        # receipts
        (RECEIPTS, ledger_notes(replace(sent("again", "ab"), ids=("a",)))),
        (RECEIPTS, ledger_notes(replace(sent("again", "ab"), ids=("a", "b", "c")))),
        (RECEIPTS, ledger_notes(replace(sent("again", "ab"), ids=("b", "a")))),
        (RECEIPTS, is_of("a", "another image")),
        # encoders
        (ENCODERS, answered_by(1, "another encoder")),
        (ENCODERS, answered_by(3, "the base and one")),
        # versions
        (ONCE, without(version=2)),
        (ONCE, with_version(VersionFacts(3, 1, "three", None))),
        (ONCE, with_version(VersionFacts(4, 3, "four", "second"))),
        (ONCE, another_digest),
        # promotions
        (CHAIN, without(promotion=3)),
        (CHAIN, with_promotion(PromotionFacts(5, 1, 4, None, NOON))),
        (CHAIN, with_promotion(PromotionFacts(6, 9, 5, None, NOON))),
        (CHAIN, with_promotion(PromotionFacts(6, 3, 5, "second", NOON))),
        (CHAIN, with_promotion(PromotionFacts(6, 2, 5, "third", NOON))),
        (CHAIN, ledger_notes(Promoted(6, 1, NOON))),
        (CHAIN, job_is(JobFacts("sixth", "succeeded", 2, "all right"))),
        # jobs
        (ENDS, job_is(JobFacts("sixth", "running", None, None))),
        (ENDS, job_is(JobFacts("sixth", "queued", None, None))),
        (ENDS, ledger_notes(SeenJob("first", "rejected", 1, NOON))),
        (ENDS, ledger_notes(SeenJob("first", "succeeded", 2, NOON))),
        (ENDS, ledger_notes(SeenJob("gone", "queued", None, NOON))),
        # the rest
        ("what is forgotten stays so", correction_is("f", "first", "applied")),
        ("artifacts verify", lambda _, evidence: replace(evidence, damaged=("a file is gone",))),
        ("no answer contradicts another", ledger_notes(Lie("two answers", NOON))),
    ],
)
def test_finds(rule: str, change: Change) -> None:
    ledger = good_ledger()
    assert rule in rules(ledger, change(ledger, good_evidence()))


@pytest.mark.parametrize("status", [503, None])
def test_a_batch_of_an_unclear_end_is_stored_whole_or_not_at_all(status: int | None) -> None:
    ledger, evidence = good_ledger(), good_evidence()
    ledger.note(sent("once", "uv", status=status))
    assert rules(ledger, evidence) == set()
    half = correction_is("u", "third", "rejected")(ledger, evidence)
    assert rules(ledger, half) == {WHOLE}
    assert rules(ledger, correction_is("v", "third", "rejected")(ledger, half)) == set()


@pytest.mark.parametrize("status", [409, 422, 507])
def test_a_refused_batch_is_not_stored_at_all(status: int) -> None:
    ledger, evidence = good_ledger(), good_evidence()
    ledger.note(sent("once", "uv", status=status))
    assert rules(ledger, evidence) == set()
    for name in "uv":
        evidence = correction_is(name, "third", "rejected")(ledger, evidence)
    assert rules(ledger, evidence) == {WHOLE}


def test_what_was_refused_may_be_there_by_another_batch() -> None:
    ledger, evidence = good_ledger(), good_evidence()
    ledger.note(sent("conflict", "a", status=409))
    assert rules(ledger, evidence) == set()


def test_two_corrections_of_one_image_cannot_both_stand() -> None:
    ledger, evidence = good_ledger(), good_evidence()
    twin = replace(correction("b", "first", "applied"), image="image a")
    assert WHOLE in rules(
        ledger, replace(evidence, corrections={**evidence.corrections, "b": twin})
    )
