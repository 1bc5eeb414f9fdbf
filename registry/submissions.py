"""Corrections come in: a submission is accepted whole or refused whole.

Holding the gathering job is a compare-and-set on its row, so a correction that was accepted is in
the job before any worker can claim it, or in the next one.

Sending the same again has no effect while the correction is under way or in the live version. Where
it came to nothing (its job failed or was rejected, its version was rolled back) it is tried again.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from registry.captions import implied_caption
from registry.edit_jobs import (
    DEFAULT_METHOD,
    add_to_job,
    cancel_emptied_jobs,
    find_open_job,
    get_job,
    open_job,
    unapplied_among,
)
from registry.errors import ArtifactMissing, EmptySubmission, LabelOutsideSet, QuestionInvalid
from registry.identity import new_id
from registry.label_sets import get_label_set
from registry.labels import normalise_label, normalise_note
from registry.matching import Key, NewCorrection, first_of_each, key_of, not_known_yet, standing
from registry.promotions import live_promotion
from registry.questions import answer_key, normalise_answer, normalise_question
from registry.session import take_turn
from registry.tables import Artifact, Correction, EditJob


@dataclass(frozen=True)
class SubmittedCorrection:
    """`id` is the earlier correction's own when this is a duplicate of it."""

    id: str
    status: Literal["accepted", "duplicate"]
    duplicate_of: str | None


@dataclass(frozen=True)
class Submission:
    """One answer an item, in order, and the job they joined; when all are duplicates without
    effect, the one that the first of them is in."""

    corrections: list[SubmittedCorrection]
    edit_job: EditJob


def submit(
    session: Session,
    items: Sequence[NewCorrection],
    *,
    replace: bool,
    base_digest: str,
    batch: int,
    wait: timedelta,
    now: datetime,
    method: str = DEFAULT_METHOD,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Submission:
    """Accept all of the items, or none: any error leaves the transaction to be rolled back.

    They, and duplicates of corrections that came to nothing, join the job that is gathering, or
    open one with this method, config and seed, which starts `wait` after that, or as soon as
    `batch` corrections have gathered. The images must have been kept (`keep_artifact`) before, in
    this transaction. With `replace` an item takes the place of an earlier one that has another
    label or another label set.

    Raises EmptySubmission, LabelInvalid, QuestionInvalid, LabelOutsideSet, NoteInvalid,
    LabelSetMissing, ArtifactMissing, and CorrectionConflict when an image has another label
    already, or a question about it another answer (unless `replace`), or two in this very
    submission.
    """
    if not items:
        raise EmptySubmission
    take_turn(session)
    items = _checked(session, items)
    wanted = first_of_each(items)
    earlier = standing(session, wanted)
    fresh = not_known_yet(wanted, earlier, replace=replace)
    again = _to_try_again(session, [earlier[key].id for key in wanted if key not in fresh])
    if not fresh and not again:
        job = get_job(session, earlier[items[0].key].edit_job_id)
        return Submission(_answers(items, {}, earlier), job)
    job = _gathering_job(
        session,
        count=len(fresh) + len(again),
        batch=batch,
        starts_at=now + wait,
        now=now,
        method=method,
        config=config or {},
        seed=seed,
        base_digest=base_digest,
    )
    ids = {key: new_id() for key in fresh}
    superseded = [earlier[key] for key in fresh if key in earlier]
    _supersede(session, {known.id: ids[key_of(known)] for known in superseded})
    _insert(session, fresh, ids, job_id=job.id, now=now)
    add_to_job(session, job.id, again)
    cancel_emptied_jobs(session, [known.edit_job_id for known in superseded], now=now)
    return Submission(_answers(items, ids, earlier), get_job(session, job.id))


def _checked(session: Session, items: Sequence[NewCorrection]) -> list[NewCorrection]:
    """Normalised, each label inside its set, each image kept."""
    sets = {
        name: set(get_label_set(session, name).labels)
        for name in {item.label_set for item in items}
        if name is not None
    }
    images = {item.image_sha256 for item in items}
    kept = set(session.scalars(select(Artifact.sha256).where(Artifact.sha256.in_(images))))
    checked = []
    for item in (_normalised(each, sets.get(each.label_set or "", ())) for each in items):
        if item.label_set is not None and item.label and item.label not in sets[item.label_set]:
            raise LabelOutsideSet(item.label, item.label_set)
        if item.image_sha256 not in kept:
            raise ArtifactMissing(item.image_sha256)
        checked.append(item)
    return checked


def _normalised(item: NewCorrection, labels: Container[str]) -> NewCorrection:
    """With the label and the wrong prediction that its answers imply, where none are given."""
    label, predicted, answer, wrong = item.label, item.predicted, item.answer, item.wrong_answer
    question = ""
    if item.question:
        question = normalise_question(item.question)
        answer = normalise_answer(answer or "")
        wrong = None if wrong is None else normalise_answer(wrong, "wrong answer")
        if wrong is not None and answer_key(wrong) == answer_key(answer):
            raise QuestionInvalid("wrong answer", "is the right one")
        if label is None:
            caption = implied_caption(question, answer, wrong, labels=labels)
            label = caption.label if caption else ""
            predicted = predicted or (caption.wrong if caption else None)
    return replaced(
        item,
        label=normalise_label(label or "") if label or not question else "",
        predicted=None if predicted is None else normalise_label(predicted),
        note=normalise_note(item.note),
        question=question,
        answer=answer,
        wrong_answer=wrong,
    )


def _to_try_again(session: Session, known: Sequence[str]) -> list[str]:
    """Those of the known corrections that are neither under way nor in the live version."""
    if not known:
        return []
    unsettled = set(unapplied_among(session, live_promotion(session).version, known))
    return [correction_id for correction_id in known if correction_id in unsettled]


def _gathering_job(
    session: Session,
    *,
    count: int,
    batch: int,
    starts_at: datetime,
    now: datetime,
    base_digest: str,
    **opening: Any,
) -> EditJob:
    """Hold the open job for `count` more corrections, or open one; due and closed once full.

    Holding it is a compare-and-set: once this transaction has written the row, no worker can claim
    the job before the corrections are in it.
    """
    job = find_open_job(session, base_digest)
    if job is not None:
        held = (
            update(EditJob)
            .where(EditJob.id == job.id, EditJob.open)
            .values(open=EditJob.open)
            .returning(EditJob.size)
            .execution_options(synchronize_session=False)
        )
        size = session.scalar(held)
        if size is not None:
            if size + count >= batch:
                job.open = False
                job.starts_at = now
                session.flush()
            return job
    full = count >= batch
    return open_job(
        session,
        base_digest=base_digest,
        gathering=not full,
        starts_at=now if full else starts_at,
        now=now,
        **opening,
    )


def _supersede(session: Session, successors: Mapping[str, str]) -> None:
    """Before the successors are inserted: no two of one key are ever live."""
    for earlier_id, successor_id in successors.items():
        session.execute(
            update(Correction)
            .where(Correction.id == earlier_id)
            .values(superseded_by=successor_id)
            .execution_options(synchronize_session=False)
        )


def _insert(
    session: Session,
    fresh: Mapping[Key, NewCorrection],
    ids: Mapping[Key, str],
    *,
    job_id: str,
    now: datetime,
) -> None:
    if not fresh:
        return
    rows = [
        {
            "id": ids[key],
            "image_sha256": key[0],
            "label": item.label,
            "label_set": item.label_set,
            "vocabulary": None if item.vocabulary is None else list(item.vocabulary),
            "predicted": item.predicted,
            "note": item.note,
            "question": item.question,
            "question_sha256": key[1],
            "answer": item.answer,
            "wrong_answer": item.wrong_answer,
            "edit_job_id": job_id,
            "created_at": now,
        }
        for key, item in fresh.items()
    ]
    session.execute(insert(Correction), rows)
    add_to_job(session, job_id, list(ids.values()))


def _answers(
    items: Sequence[NewCorrection], ids: Mapping[Key, str], earlier: Mapping[Key, Correction]
) -> list[SubmittedCorrection]:
    answers = []
    accepted: set[Key] = set()
    for key in (item.key for item in items):
        if key in ids and key not in accepted:
            accepted.add(key)
            answers.append(SubmittedCorrection(ids[key], "accepted", None))
        else:
            known = ids.get(key) or earlier[key].id
            answers.append(SubmittedCorrection(known, "duplicate", known))
    return answers
