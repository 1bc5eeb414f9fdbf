from __future__ import annotations

import pytest

from registry.artifacts import get_artifact, release_artifacts
from registry.claims import fail_job
from registry.corrections import (
    correction_ids_of,
    corrections_of,
    forget,
    get_correction,
    job_corrections,
    list_corrections,
    record_outcome,
)
from registry.edit_jobs import cancel_job, get_job
from registry.errors import ArtifactMissing, CorrectionMissing, CursorInvalid
from registry.matching import NewCorrection
from registry.predictions import NewPrediction, find_prediction, keep_predictions
from registry.submissions import submit
from registry.tables import Correction
from tests.support.database import BASE, NOON, WAIT, Memory


def _state(memory: Memory, correction_id: str) -> str:
    with memory.reading() as session:
        return get_correction(session, correction_id).state


def _forget(memory: Memory, correction_id: str) -> list[str]:
    with memory.writing() as session:
        images = forget(session, correction_id, now=NOON)
    with memory.writing() as session:
        return release_artifacts(session, memory.store, images)


def test_a_state_follows_the_job(memory: Memory) -> None:
    submission = memory.submit({"one": "cat"})
    correction = submission.corrections[0].id
    assert _state(memory, correction) == "pending"
    job = memory.claim()
    assert job is not None
    assert _state(memory, correction) == "running"
    with memory.writing() as session:
        fail_job(session, job.id, job.attempt, error={"detail": "NaN"}, now=NOON)
    assert _state(memory, correction) == "failed"


@pytest.mark.parametrize(("verdict", "state"), [("succeeded", "applied"), ("rejected", "rejected")])
def test_a_state_follows_the_verdict(memory: Memory, verdict: str, state: str) -> None:
    memory.edit({"one": "cat"}, verdict=verdict)
    with memory.reading() as session:
        [row] = list_corrections(session).items
        assert row.state == state


def test_a_state_can_be_cancelled(memory: Memory) -> None:
    submission = memory.submit({"one": "cat"})
    with memory.writing() as session:
        cancel_job(session, submission.edit_job.id, now=NOON)
    assert _state(memory, submission.corrections[0].id) == "cancelled"


def test_forgetting_removes_the_image_and_all_that_was_said_about_it(memory: Memory) -> None:
    first = memory.submit({"one": "cat"}).corrections[0].id
    second = memory.submit({"one": "dog"}, replace=True).corrections[0].id
    with memory.writing() as session:
        image = str(get_correction(session, second).image_sha256)
        prediction = NewPrediction("e" * 32, image, 0, None, ["cat"], [], 3)
        keep_predictions(session, [prediction], now=NOON)
    assert _forget(memory, second) == [image]
    with memory.reading() as session:
        assert find_prediction(session, "e" * 32) is None
        with pytest.raises(ArtifactMissing):
            get_artifact(session, image)
        for one in (first, second):
            row = get_correction(session, one)
            assert (row.state, row.image_sha256, row.note) == ("forgotten", None, None)
            assert row.forgotten_at == NOON
    assert not memory.store.exists(image)
    assert _forget(memory, second) == [], "a second time does nothing"


def test_forgetting_a_superseded_correction_keeps_the_image_of_the_newer(memory: Memory) -> None:
    first = memory.submit({"one": "cat"}).corrections[0].id
    second = memory.submit({"one": "dog"}, replace=True).corrections[0].id
    assert _forget(memory, first) == []
    with memory.reading() as session:
        row = get_correction(session, second)
        assert row.state == "pending"
        assert memory.store.get(str(row.image_sha256)) == b"one"


def test_forgetting_an_answer_keeps_the_label_of_the_image(memory: Memory) -> None:
    label = memory.submit({"one": "cat"}).corrections[0].id
    asked = []
    for answer in ("a dog", "a fox"):
        with memory.writing() as session:
            image = memory.keep(session, b"one")
            item = NewCorrection(image, question="What is this?", answer=answer)
            made = submit(
                session, [item], replace=True, base_digest=BASE, batch=20, wait=WAIT, now=NOON
            )
            asked.append(made.corrections[0].id)
    _forget(memory, asked[1])
    with memory.reading() as session:
        rows = [get_correction(session, one) for one in asked]
        assert [row.state for row in rows] == ["forgotten"] * 2
        assert {(row.question, row.answer, row.label) for row in rows} == {("", None, "")}
        assert get_correction(session, label).image_sha256 == image
    assert memory.store.get(image) == b"one"
    assert _forget(memory, label) == [image]
    with pytest.raises(ArtifactMissing):
        memory.store.get(image)


def test_of_a_forgotten_answer_no_word_is_left(memory: Memory) -> None:
    with memory.writing() as session:
        item = NewCorrection(
            memory.keep(session, b"one"),
            question="Whose car is it?",
            answer="ours",
            wrong_answer="theirs",
        )
        made = submit(
            session, [item], replace=False, base_digest=BASE, batch=20, wait=WAIT, now=NOON
        )
        asked = made.corrections[0].id
        assert get_correction(session, asked).predicted == "Whose car is it? theirs"
        record_outcome(session, asked, before={"label": item.question}, after={"answer": "ours"})
    _forget(memory, asked)
    with memory.writing() as session:  # of a job that ends after it
        record_outcome(session, asked, before={"label": item.question}, after={"answer": "ours"})
    with memory.reading() as session:
        row = get_correction(session, asked)
        assert (row.question, row.label, row.answer, row.wrong_answer) == ("", "", None, None)
        assert (row.predicted, row.before, row.after) == (None, None, None)


def test_forgetting_the_only_correction_of_a_queued_job_cancels_it(memory: Memory) -> None:
    submission = memory.submit({"one": "cat"})
    _forget(memory, submission.corrections[0].id)
    with memory.reading() as session:
        assert get_job(session, submission.edit_job.id).status == "cancelled"
    assert memory.claim() is None
    assert _state(memory, submission.corrections[0].id) == "forgotten"


def test_a_forgotten_image_may_be_corrected_anew(memory: Memory) -> None:
    submission = memory.submit({"one": "cat"})
    _forget(memory, submission.corrections[0].id)
    again = memory.submit({"one": "dog"})
    assert again.corrections[0].status == "accepted"


def test_corrections_that_no_longer_stand_are_left_out_when_read_by_id(memory: Memory) -> None:
    submission = memory.submit({f"image {number}": "cat" for number in range(250)})
    ids = [one.id for one in submission.corrections]
    _forget(memory, ids[0])
    memory.submit({"image 1": "dog"}, replace=True)
    with memory.reading() as session:
        rows = corrections_of(session, reversed(ids))
    assert [row.id for row in rows] == sorted(ids[2:])


def test_what_the_encoder_said_before_and_after_is_kept(memory: Memory) -> None:
    correction = memory.submit({"one": "cat"}).corrections[0].id
    before, after = {"label": "dog", "score": 0.9}, {"label": "cat", "score": 0.8}
    with memory.writing() as session:
        record_outcome(session, correction, before=before, after=after)
    with memory.reading() as session:
        row = get_correction(session, correction)
        assert (row.before, row.after) == (before, after)


def test_corrections_page_newest_first(memory: Memory) -> None:
    given = memory.submit({str(number): "cat" for number in range(5)})
    ids = [one.id for one in given.corrections]
    seen: list[str] = []
    cursor: str | None = None
    with memory.reading() as session:
        while True:
            page = list_corrections(session, cursor=cursor, limit=2)
            seen += [row.id for row in page.items]
            assert all(isinstance(row, Correction) and row.state == "pending" for row in page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
        with pytest.raises(CursorInvalid):
            list_corrections(session, cursor="x")
        jobs = correction_ids_of(session, [given.edit_job.id, "unknown"])
    assert seen == ids[::-1]
    assert jobs == {given.edit_job.id: ids, "unknown": []}


def test_an_unknown_correction_is_named(memory: Memory) -> None:
    with memory.reading() as session, pytest.raises(CorrectionMissing) as caught:
        get_correction(session, "f" * 32)
    assert "f" * 32 in str(caught.value)
    with memory.writing() as session, pytest.raises(CorrectionMissing):
        forget(session, "f" * 32, now=NOON)


def test_a_running_job_no_longer_sees_a_correction_that_was_forgotten(memory: Memory) -> None:
    submission = memory.submit({"one": "cat", "two": "cat"})
    job = memory.claim(now=NOON + WAIT)
    assert job is not None
    _forget(memory, submission.corrections[0].id)
    with memory.reading() as session:
        rows = job_corrections(session, job.id)
        assert [row.id for row in rows] == [submission.corrections[1].id]
        assert get_job(session, job.id).status == "running"
