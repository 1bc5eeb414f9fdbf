"""Holds what clients were told against what is left.

Each rule is a function from both to violations; `audit` asks all of them. Rules of the answers
themselves are in `chaos.manners`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.evidence import CorrectionFacts, Evidence
from chaos.ledger import Ledger, Sent

ENDED = frozenset({"succeeded", "rejected", "failed", "cancelled"})


@dataclass(frozen=True)
class Violation:
    """`rule` is what must hold, `detail` where it does not."""

    rule: str
    detail: str


def audit(ledger: Ledger, evidence: Evidence) -> list[Violation]:
    """Everything that is wrong; nothing, where all went well."""
    rules = (
        corrections_are_accounted_for,
        corrections_are_told,
        batches_are_whole,
        receipts_are_of_what_was_sent,
        versions_are_one_each,
        encoders_are_one_each,
        promotions_are_one_chain,
        jobs_have_ended,
        forgetting_lasts,
    )
    found = [violation for rule in rules for violation in rule(ledger, evidence)]
    found += [Violation("artifacts verify", detail) for detail in evidence.damaged]
    return found + [Violation("no answer contradicts another", lie.what) for lie in ledger.lies]


def corrections_are_accounted_for(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """Answered 202: in the live lineage, or in a job that ended and says why; or given up by the
    one who sent it."""
    rule = "every correction answered 202 is live or has a stated reason"
    learnt = evidence.learnt(evidence.lineage(evidence.live))
    forgotten = _images_to_forget(ledger)
    for name, sent in ledger.accepted().items():
        row = evidence.corrections.get(name)
        lost = "is not there" if row is None else _lost(row, sent, evidence, learnt, forgotten)
        if lost is not None:
            yield Violation(rule, f"correction {name} {lost}")


def _lost(
    row: CorrectionFacts,
    sent: Sent,
    evidence: Evidence,
    learnt: frozenset[str],
    forgotten: frozenset[str],
) -> str | None:
    """What is wrong with it; None when nothing is."""
    if row.state == "forgotten":
        asked = sent.image_of(row.id) in forgotten
        return None if asked else "was forgotten without being asked to"
    if row.state == "superseded":
        known = row.superseded_by in evidence.corrections
        return None if known else f"gives way to {row.superseded_by}, which is not there"
    if row.id in learnt:
        return None
    job = evidence.jobs.get(row.job)
    if job is None:
        return f"is in job {row.job}, which is not there"
    if job.status == "cancelled":
        return None if job.cancel_requested else f"is in job {job.id}, cancelled by nobody"
    if job.status in ("rejected", "failed"):
        return None if job.reason else f"is in job {job.id}, {job.status} without a reason"
    return f"is in job {job.id}, {job.status} as version {job.adapter}, and not in the live lineage"


def _images_to_forget(ledger: Ledger) -> frozenset[str]:
    return frozenset(
        image
        for batch in ledger.sent
        for name, image in zip(batch.ids, batch.images, strict=False)
        if name in ledger.forgotten
    )


def corrections_are_told(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """What an API says of a correction is what its row says."""
    rule = "the API tells of every accepted correction as it is"
    accepted = ledger.accepted()
    for name, (status, state, label) in evidence.told.items():
        row = evidence.corrections.get(name)
        if status != 200:
            yield Violation(rule, f"correction {name} is answered {status}")
        elif row is not None and (state, label) != (row.state, row.label):
            yield Violation(rule, f"correction {name} is told to be {state}, and is {row.state}")
        elif name in accepted and label != accepted[name].label_of(name):
            yield Violation(rule, f"correction {name} has the label {label}, which was not sent")


def batches_are_whole(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """A batch is stored whole or not at all, and not at all when it was refused."""
    rule = "a batch is accepted whole or refused whole"
    stored = {row.image for row in evidence.corrections.values() if row.image is not None}
    wanted = Counter(image for batch in ledger.sent for image in set(batch.images))
    for batch in ledger.sent:
        if batch.status == 202:
            continue
        own = [image for image in batch.images if wanted[image] == 1]
        kept = [image for image in own if image in stored]
        refused = batch.status not in (None, 503) and not batch.unclear
        if kept and (refused or len(kept) < len(own)):
            told = f"{len(kept)} of {len(own)} pictures of a batch answered {batch.status}"
            yield Violation(rule, f"{told} are stored")
    for image, count in Counter(_standing(evidence)).items():
        if count > 1:
            yield Violation(rule, f"image {image} has {count} corrections that stand")


def receipts_are_of_what_was_sent(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """A 202 has a receipt an image, in order, and each is for the very bytes that were sent."""
    rule = "a receipt for every image, and for that image"
    for batch in ledger.sent:
        if batch.status != 202:
            continue
        if len(batch.ids) != len(batch.images):
            yield Violation(rule, f"{len(batch.images)} images got {len(batch.ids)} receipts")
        for name, image in zip(batch.ids, batch.images, strict=False):
            row = evidence.corrections.get(name)
            if row is not None and row.image not in (None, image):
                yield Violation(rule, f"correction {name} is of {row.image}, sent was {image}")


def _standing(evidence: Evidence) -> Iterator[str]:
    for row in evidence.corrections.values():
        if row.image is not None and row.state not in ("superseded", "forgotten"):
            yield row.image


def versions_are_one_each(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """Numbers without a gap, one row a number, one version a job, one file a number for ever."""
    rule = "no adapter version twice, none missing"
    numbers = sorted(one.version for one in evidence.versions)
    if numbers != list(range(len(numbers))):
        yield Violation(rule, f"the versions are {numbers}")
    for job, count in Counter(one.job for one in evidence.versions if one.job).items():
        if count > 1:
            yield Violation(rule, f"job {job} made {count} versions")
    digests = {one.version: one.digest for one in evidence.versions}
    for version, told in sorted(ledger.digests.items()):
        if told != {digests.get(version)}:
            yield Violation(rule, f"version {version} was told to be {sorted(told)}")


def encoders_are_one_each(ledger: Ledger, _: Evidence) -> Iterator[Violation]:
    """Whoever answers as a version does so by the same encoder, and by no other version's."""
    rule = "one encoder a version, at every API"
    first: dict[str, int] = {}
    for version, told in sorted(ledger.encoders.items()):
        if len(told) != 1:
            yield Violation(rule, f"version {version} answered by the encoders {sorted(told)}")
        for digest in told:
            if first.setdefault(digest, version) != version:
                yield Violation(rule, f"{first[digest]} and {version} answered by one encoder")


def promotions_are_one_chain(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """None lost, none forked, none that nobody asked for; a job's success is its promotion."""
    rule = "no promotion is lost or forked"
    rows = sorted(evidence.promotions, key=lambda one: one.id)
    for number, row in enumerate(rows, start=1):
        if (row.id, row.replaces) != (number, number - 1 or None):
            yield Violation(rule, f"promotion {row.id} replaces {row.replaces}, at place {number}")
    history = {(one.id, one.version) for one in rows}
    for made in ledger.promoted:
        if (made.id, made.version) not in history:
            yield Violation(rule, f"promotion {made.id} of version {made.version} is lost")
    versions = {one.version for one in evidence.versions}
    for row in rows:
        if row.version not in versions:
            yield Violation(rule, f"promotion {row.id} is of version {row.version}, not there")
    made_live = Counter((one.job, one.version) for one in rows if one.job is not None)
    succeeded = {
        (one.id, one.adapter) for one in evidence.jobs.values() if one.status == "succeeded"
    }
    for key in succeeded - set(made_live):
        yield Violation(rule, f"job {key[0]} succeeded as version {key[1]} without a promotion")
    for key, count in made_live.items():
        if count > 1 or key not in succeeded:
            yield Violation(rule, f"job {key[0]} promoted version {key[1]} {count} times")


def jobs_have_ended(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """None is under way, and none that was told to have ended has changed since."""
    rule = "jobs end once"
    for job in evidence.jobs.values():
        if job.status not in ENDED:
            yield Violation(rule, f"job {job.id} is left {job.status}")
    for seen in ledger.jobs:
        now = evidence.jobs.get(seen.id)
        if now is None:
            yield Violation(rule, f"job {seen.id} was told of and is not there")
        elif seen.status in ENDED and (seen.status, seen.adapter) != (now.status, now.adapter):
            told = f"{seen.status} as {seen.adapter}"
            yield Violation(rule, f"job {seen.id} was {told}, is {now.status} as {now.adapter}")


def forgetting_lasts(ledger: Ledger, evidence: Evidence) -> Iterator[Violation]:
    """What was answered 204 is forgotten."""
    for answer in ledger.answers:
        if answer.method == "DELETE" and answer.status == 204:
            name = answer.path.rpartition("/")[2]
            row = evidence.corrections.get(name)
            if row is not None and row.state != "forgotten":
                yield Violation("what is forgotten stays so", f"correction {name} is {row.state}")
