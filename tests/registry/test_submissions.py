from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from registry.claims import claim_job, fail_job
from registry.corrections import get_correction, job_corrections, list_corrections
from registry.edit_jobs import get_job, list_jobs
from registry.errors import (
    ArtifactMissing,
    CorrectionConflict,
    EmptySubmission,
    LabelInvalid,
    LabelOutsideSet,
    LabelSetMissing,
    NoteInvalid,
    QuestionInvalid,
)
from registry.label_sets import put_label_set
from registry.matching import NewCorrection
from registry.promotions import live_promotion, promote
from registry.submissions import Submission, submit
from registry.tables import Correction, EditJob
from tests.support.database import BASE, NOON, WAIT, Memory, together


def _submit(memory: Memory, *items: NewCorrection, replace: bool = False) -> None:
    with memory.writing() as session:
        for image in (b"one", b"two"):
            memory.keep(session, image)
        submit(session, items, replace=replace, base_digest=BASE, batch=20, wait=WAIT, now=NOON)


def _image(memory: Memory, data: bytes) -> str:
    return memory.store.put(data)


def _stored(memory: Memory) -> tuple[int, int]:
    with memory.reading() as session:
        corrections = session.scalars(select(func.count()).select_from(Correction)).one()
        return corrections, session.scalars(select(func.count()).select_from(EditJob)).one()


def test_the_first_correction_opens_a_job_and_the_next_ones_join_it(memory: Memory) -> None:
    first = memory.submit({"one": "cat"})
    second = memory.submit({"two": "dog", "three": "cat"}, now=NOON + timedelta(seconds=1))
    assert first.edit_job.id == second.edit_job.id
    assert (second.edit_job.size, second.edit_job.open) == (3, True)
    assert second.edit_job.starts_at == NOON + WAIT
    with memory.reading() as session:
        row = get_correction(session, first.corrections[0].id)
        assert (row.label, row.state, row.created_at) == ("cat", "pending", NOON)


def test_a_full_batch_starts_at_once_and_gathers_no_more(memory: Memory) -> None:
    memory.submit({"one": "cat"}, batch=3)
    full = memory.submit({"two": "cat", "three": "cat"}, batch=3, now=NOON + timedelta(seconds=1))
    assert not full.edit_job.open
    assert full.edit_job.starts_at == NOON + timedelta(seconds=1)
    later = memory.submit({"four": "cat"}, batch=3)
    assert later.edit_job.id != full.edit_job.id


def test_the_same_image_with_the_same_label_is_a_duplicate(memory: Memory) -> None:
    first = memory.submit({"one": "Straße"})
    again = memory.submit({"one": "  Straße "})
    assert again.corrections[0].status == "duplicate"
    assert again.corrections[0].duplicate_of == first.corrections[0].id
    assert again.edit_job.id == first.edit_job.id
    assert again.edit_job.size == 1
    assert _stored(memory) == (1, 1)


def _promote(memory: Memory, version: int) -> None:
    with memory.writing() as session:
        live = live_promotion(session)
        promote(session, version, replaces=live.id, reason="by hand", now=NOON)


def _expect_another_try(memory: Memory, again: Submission, labels: list[str]) -> None:
    """The answer's job runs next, with the corrections of these labels."""
    assert (again.edit_job.status, again.edit_job.size) == ("queued", len(labels))
    job = memory.claim()
    assert job is not None
    assert job.id == again.edit_job.id
    with memory.reading() as session:
        assert [row.label for row in job_corrections(session, job.id)] == labels


def test_the_same_again_after_a_rollback_is_a_duplicate_that_is_tried_again(memory: Memory) -> None:
    memory.edit({"one": "cat", "two": "dog"})
    with memory.reading() as session:
        first = {row.label: row.id for row in list_corrections(session).items}
    _promote(memory, 0)
    again = memory.submit({"one": "cat"})
    [answer] = again.corrections
    assert (answer.status, answer.id, answer.duplicate_of) == ("duplicate", *[first["cat"]] * 2)
    with memory.reading() as session:
        assert get_correction(session, first["cat"]).state == "pending"
    _expect_another_try(memory, again, ["cat"])
    assert _stored(memory) == (2, 2)


def test_the_same_again_after_a_rejected_or_failed_job_is_tried_again(memory: Memory) -> None:
    memory.edit({"one": "cat"}, verdict="rejected")
    memory.submit({"two": "dog"})
    job = memory.claim()
    assert job is not None
    with memory.writing() as session:
        fail_job(session, job.id, job.attempt, error={"detail": "NaN"}, now=NOON)
    again = memory.submit({"two": "dog", "three": "owl", "one": "cat"})
    statuses = [one.status for one in again.corrections]
    assert statuses == ["duplicate", "accepted", "duplicate"]
    _expect_another_try(memory, again, ["cat", "dog", "owl"])


def test_what_is_tried_again_fills_a_batch(memory: Memory) -> None:
    memory.edit({"one": "cat", "two": "dog"}, verdict="rejected")
    memory.submit({"three": "owl"}, batch=3)
    full = memory.submit({"one": "cat", "two": "dog"}, batch=3).edit_job
    assert (full.open, full.starts_at, full.size) == (False, NOON, 3)


def test_the_same_again_without_need_has_no_effect(memory: Memory) -> None:
    memory.edit({"one": "cat"})
    assert memory.submit({"one": "cat"}).edit_job.status == "succeeded", "applied"
    waiting = memory.submit({"two": "dog"})
    for _ in range(2):  # in the queue, then running
        again = memory.submit({"two": "dog"})
        assert (again.edit_job.id, again.edit_job.size) == (waiting.edit_job.id, 1)
        memory.claim()
    assert _stored(memory) == (2, 2)


def test_the_same_again_has_no_effect_once_its_refused_version_is_live(memory: Memory) -> None:
    version = memory.edit({"one": "cat"}, verdict="rejected")
    _promote(memory, version)
    assert memory.submit({"one": "cat"}).edit_job.status == "rejected"
    assert _stored(memory) == (1, 1)


def test_another_label_set_is_taken_when_told_so(memory: Memory) -> None:
    with memory.writing() as session:
        for name in ("pets", "animals"):
            put_label_set(session, name, ["cat", name], now=NOON)
    image = _image(memory, b"one")
    _submit(memory, NewCorrection(image, "cat", "pets"))
    _submit(memory, NewCorrection(image, "cat", "animals"))
    assert _stored(memory) == (1, 1), "the same label is a duplicate"
    for label_set in ("animals", "animals", None):
        _submit(memory, NewCorrection(image, "cat", label_set), replace=True)
    with memory.reading() as session:
        newer, earlier = list_corrections(session).items
        assert (newer.label_set, newer.state) == ("animals", "pending")
        assert (earlier.label_set, earlier.superseded_by) == ("pets", newer.id)


def test_an_image_twice_in_one_submission_is_taken_once(memory: Memory) -> None:
    image = _image(memory, b"one")
    _submit(memory, NewCorrection(image, "cat"), NewCorrection(image, "cat"))
    assert _stored(memory) == (1, 1)


def test_another_label_is_a_conflict_that_names_the_earlier_correction(memory: Memory) -> None:
    first = memory.submit({"one": "cat"})
    with pytest.raises(CorrectionConflict) as caught:
        memory.submit({"new": "bird", "one": "dog"})
    assert caught.value.earlier_id == first.corrections[0].id
    assert (caught.value.earlier_label, caught.value.label) == ("cat", "dog")
    assert _stored(memory) == (1, 1), "the whole submission is refused"


def test_two_labels_for_one_image_in_one_submission_are_refused(memory: Memory) -> None:
    image = _image(memory, b"one")
    with pytest.raises(CorrectionConflict) as caught:
        _submit(memory, NewCorrection(image, "cat"), NewCorrection(image, "dog"))
    assert caught.value.earlier_id is None
    assert _stored(memory) == (0, 0)


def test_a_newer_label_replaces_an_earlier_one_when_told_so(memory: Memory) -> None:
    first = memory.submit({"one": "cat"})
    second = memory.submit({"one": "dog", "two": "cat"}, replace=True)
    with memory.reading() as session:
        earlier = get_correction(session, first.corrections[0].id)
        assert earlier.state == "superseded"
        assert earlier.superseded_by == second.corrections[0].id
        waiting = job_corrections(session, second.edit_job.id)
        assert [row.label for row in waiting] == ["dog", "cat"]
    with pytest.raises(CorrectionConflict) as caught:
        memory.submit({"one": "cat"})
    assert caught.value.earlier_id == second.corrections[0].id


def test_a_queued_job_whose_corrections_were_all_replaced_is_cancelled(memory: Memory) -> None:
    first = memory.submit({"one": "cat"}, batch=1)
    second = memory.submit({"one": "dog"}, replace=True, batch=1)
    with memory.reading() as session:
        assert get_job(session, first.edit_job.id).status == "cancelled"
        assert get_job(session, second.edit_job.id).status == "queued"


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"label": " \t "}, LabelInvalid),
        ({"label": "x" * 10_000}, LabelInvalid),
        ({"label": "dog", "label_set": "pets"}, LabelOutsideSet),
        ({"label": "cat", "label_set": "unknown"}, LabelSetMissing),
        ({"label": "cat", "note": "a\x00b"}, NoteInvalid),
        ({"label": "cat", "image_sha256": "0" * 64}, ArtifactMissing),
    ],
)
def test_one_bad_correction_refuses_the_whole_submission(
    memory: Memory, item: dict[str, str], error: type[Exception]
) -> None:
    with memory.writing() as session:
        put_label_set(session, "pets", ["cat", "fish"], now=NOON)
    bad = NewCorrection(**{"image_sha256": _image(memory, b"two"), **item})
    with pytest.raises(error):
        _submit(memory, NewCorrection(_image(memory, b"one"), "fish"), bad)
    assert _stored(memory) == (0, 0)


def test_no_corrections_at_all_are_refused(memory: Memory) -> None:
    with pytest.raises(EmptySubmission):
        _submit(memory)


def test_everything_that_came_with_a_correction_is_kept(memory: Memory) -> None:
    with memory.writing() as session:
        put_label_set(session, "pets", ["cat", "fish"], now=NOON)
    given = NewCorrection(
        _image(memory, b"one"), "cat", "pets", ["cat", "fish"], " fish ", " seen in the park "
    )
    _submit(memory, given)
    with memory.reading() as session:
        [row] = list_corrections(session).items
        assert (row.label_set, row.vocabulary, row.predicted, row.note) == (
            "pets",
            ["cat", "fish"],
            "fish",
            "seen in the park",
        )


def test_of_parallel_submissions_of_one_image_one_is_accepted(memory: Memory) -> None:
    outcomes = together(6, lambda index: memory.submit({"one": f"label {index % 2}"}))
    conflicts = [one for one in outcomes if isinstance(one, CorrectionConflict)]
    others = [one for one in outcomes if not isinstance(one, Exception)]
    assert len(conflicts) == 3
    statuses = sorted(one.corrections[0].status for one in others)
    assert statuses == ["accepted", "duplicate", "duplicate"]
    assert _stored(memory) == (1, 1)


def test_no_correction_is_lost_while_jobs_are_being_claimed(memory: Memory) -> None:
    """Six clients send while two workers claim and finish: each correction is in one job, and it
    was in there when the job was claimed."""
    clients, each = 6, 8
    claimed: dict[str, set[str]] = {}

    def client(index: int) -> None:
        for number in range(each):
            memory.submit({f"{index}-{number}": "cat"}, wait=timedelta(0), batch=5)

    def worker(index: int) -> None:
        idle = 0
        while idle < 40:
            with memory.writing() as session:
                job = claim_job(session, worker=str(index), now=NOON)
                if job is not None:
                    rows = job_corrections(session, job.id)
                    claimed[job.id] = {row.id for row in rows}
                    job.status = "rejected"
            idle = 0 if job is not None else idle + 1

    outcomes = together(clients + 2, lambda i: client(i) if i < clients else worker(i))
    assert outcomes == [None] * (clients + 2)
    while (job := memory.claim()) is not None:
        with memory.writing() as session:
            claimed[job.id] = {row.id for row in job_corrections(session, job.id)}
            get_job(session, job.id).status = "rejected"
    with memory.reading() as session:
        everything = {row.id for row in list_corrections(session, limit=500).items}
        assert len(everything) == clients * each
        assert set().union(*claimed.values()) == everything
        assert sum(len(ids) for ids in claimed.values()) == len(everything)
        for row in list_jobs(session, limit=500).items:
            assert row.size == len(claimed[row.id])


def _ask(
    memory: Memory,
    answer: str,
    *,
    question: str = "What is this?",
    replace: bool = False,
    **said: str | None,
) -> Submission:
    """A question about the image "one" is answered."""
    with memory.writing() as session:
        image = memory.keep(session, b"one")
        item = NewCorrection(image, question=question, answer=answer, **said)
        return submit(
            session, [item], replace=replace, base_digest=BASE, batch=20, wait=WAIT, now=NOON
        )


def test_an_image_has_one_answer_to_each_question_beside_its_label(memory: Memory) -> None:
    label = memory.submit({"one": "animal"})
    what = _ask(memory, "a fox", wrong_answer="a dog")
    colour = _ask(memory, "red", question="What colour is it?", wrong_answer="blue")
    assert [one.corrections[0].status for one in (label, what, colour)] == ["accepted"] * 3
    with memory.reading() as session:
        rows = [get_correction(session, one.corrections[0].id) for one in (label, what, colour)]
        assert [(row.label, row.predicted) for row in rows] == [
            ("animal", None),
            ("fox", "dog"),
            ("What colour is it? red", "What colour is it? blue"),
        ]
        assert [row.question for row in rows] == ["", "What is this?", "What colour is it?"]
        assert (rows[1].answer, rows[1].wrong_answer) == ("a fox", "a dog")


def test_the_same_answer_is_a_duplicate_and_another_needs_replace(memory: Memory) -> None:
    first = _ask(memory, "a fox")
    again = _ask(memory, " a fox ", question=" What is this? ")
    assert again.corrections[0].duplicate_of == first.corrections[0].id
    with pytest.raises(CorrectionConflict, match="'What is this\\?'") as caught:
        _ask(memory, "a dog")
    facts = (caught.value.label, caught.value.earlier_label, caught.value.question)
    assert facts == ("a dog", "a fox", "What is this?")
    newer = _ask(memory, "a dog", replace=True)
    with memory.reading() as session:
        row = get_correction(session, first.corrections[0].id)
        assert row.superseded_by == newer.corrections[0].id


def test_a_given_label_goes_before_the_implied_one(memory: Memory) -> None:
    fox = "Is this a fox?"
    first = _ask(memory, "no", question=fox, label="dog")
    with memory.reading() as session:
        assert get_correction(session, first.corrections[0].id).label == "dog"
    with pytest.raises(CorrectionConflict, match="is labelled 'dog'"):
        _ask(memory, "no", question=fox, label="cat")


def test_an_answer_that_implies_no_caption_has_no_label(memory: Memory) -> None:
    only = _ask(memory, "no", question="Is this a fox?", wrong_answer="yes")
    with memory.reading() as session:
        assert get_correction(session, only.corrections[0].id).label == ""


def test_an_implied_label_must_stand_in_the_label_set(memory: Memory) -> None:
    with memory.writing() as session:
        put_label_set(session, "pets", ["cat", "the dog"], now=NOON)
    with pytest.raises(LabelOutsideSet):
        _ask(memory, "fox", label_set="pets")
    what = {"What is this?": "a cat", "What is it?": "the dog"}
    made = [_ask(memory, said, question=each, label_set="pets") for each, said in what.items()]
    with memory.reading() as session:
        rows = [get_correction(session, each.corrections[0].id) for each in made]
        assert [row.label for row in rows] == ["cat", "the dog"]


@pytest.mark.parametrize(
    ("answer", "wrong", "reason"),
    [("", None, "the answer is empty"), ("fox", "Fox.", "the wrong answer is the right one")],
)
def test_answers_that_say_nothing_are_refused(
    memory: Memory, answer: str, wrong: str | None, reason: str
) -> None:
    with pytest.raises(QuestionInvalid, match=reason):
        _ask(memory, answer, wrong_answer=wrong)
    assert _stored(memory) == (0, 0)
