from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from registry.artifacts import release_artifacts
from registry.claims import finish_job
from registry.corrections import forget, get_correction, job_corrections
from registry.edit_jobs import cancel_job, due_jobs, get_job, list_jobs, start_job
from registry.errors import CorrectionMissing, JobFinished, JobMissing, NothingToEdit
from registry.promotions import live_promotion, promote
from registry.tables import EditJob
from tests.support.database import BASE, NOON, WAIT, Memory, together


def _start(memory: Memory, **more: Any) -> EditJob:
    with memory.writing() as session:
        return start_job(
            session,
            **{
                "method": "lorsu",
                "config": {"rank": 4},
                "seed": 7,
                "base_digest": BASE,
                "now": NOON,
                **more,
            },
        )


def _labels(memory: Memory, job: EditJob) -> list[str]:
    with memory.reading() as session:
        return [row.label for row in job_corrections(session, job.id)]


def _rollback(memory: Memory, version: int) -> None:
    with memory.writing() as session:
        live = live_promotion(session)
        promote(session, version, replaces=live.id, reason="rollback", now=NOON)


def _forget(memory: Memory, correction_id: str) -> None:
    with memory.writing() as session:
        images = forget(session, correction_id, now=NOON)
    with memory.writing() as session:
        release_artifacts(session, memory.store, images)


def test_nothing_to_edit_is_refused(memory: Memory) -> None:
    with pytest.raises(NothingToEdit):
        _start(memory)
    memory.edit({"one": "cat"})
    with pytest.raises(NothingToEdit):
        _start(memory)
    with memory.reading() as session:
        assert len(list_jobs(session).items) == 1, "a refused start leaves no job"


def test_starting_makes_the_gathering_job_due_with_this_method_and_config(memory: Memory) -> None:
    gathering = memory.submit({"one": "cat"}).edit_job
    with memory.reading() as session:
        assert due_jobs(session, NOON) == []
    started = _start(memory, method="other")
    assert started.id == gathering.id
    assert (started.method, started.config, started.seed) == ("other", {"rank": 4}, 7)
    assert (started.open, started.starts_at) == (False, NOON)
    with memory.reading() as session:
        assert due_jobs(session, NOON) == [started.id]
    assert memory.submit({"two": "cat"}).edit_job.id != started.id


@pytest.mark.parametrize("ending", ["rejected", "cancelled"])
def test_corrections_of_a_job_that_came_to_nothing_are_taken_up_again(
    memory: Memory, ending: str
) -> None:
    first = memory.submit({"one": "cat", "two": "dog"})
    job = memory.claim()
    assert job is not None
    with memory.writing() as session:
        status: Any = ending
        finish_job(session, job.id, job.attempt, status=status, now=NOON)
    again = _start(memory)
    assert again.id != job.id
    assert again.size == 2
    assert _labels(memory, again) == ["cat", "dog"]
    with memory.reading() as session:
        assert get_correction(session, first.corrections[0].id).state == "pending"
    with pytest.raises(NothingToEdit):
        _start(memory)


def test_corrections_of_a_version_that_was_rolled_back_are_taken_up_again(memory: Memory) -> None:
    memory.edit({"one": "cat"})
    memory.edit({"two": "dog"}, stacked=True)
    _rollback(memory, 1)
    assert _labels(memory, _start(memory)) == ["dog"]


def _emptied(memory: Memory) -> dict[int, bool]:
    with memory.reading() as session:
        return {job.number: job.emptied for job in list_jobs(session).items}


def test_a_job_whose_corrections_moved_on_is_not_looked_at_again(memory: Memory) -> None:
    memory.edit({"one": "cat"}, verdict="rejected")
    memory.edit({"two": "dog"})
    _rollback(memory, 0)
    assert _labels(memory, _start(memory)) == ["cat", "dog"]
    assert _emptied(memory) == {1: True, 2: True, 3: False}
    with pytest.raises(NothingToEdit):
        _start(memory)


def test_jobs_are_noted_a_few_at_a_time(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.edit_jobs.JOBS_AT_ONCE", 1)
    for image in ("one", "two", "three"):
        memory.edit({image: "cat"}, verdict="rejected")
    assert _labels(memory, _start(memory)) == ["cat"] * 3
    assert sum(_emptied(memory).values()) == 1
    with memory.writing() as session:
        cancel_job(session, list_jobs(session).items[0].id, now=NOON)
    assert _labels(memory, _start(memory)) == ["cat"] * 3
    assert sum(_emptied(memory).values()) == 2


def test_a_job_is_looked_at_again_while_one_of_its_corrections_may_come_back(
    memory: Memory,
) -> None:
    refused = memory.edit({"one": "cat"}, verdict="rejected")
    _rollback(memory, refused)  # by hand: now its correction is live
    memory.edit({"two": "dog"}, verdict="rejected")
    assert _labels(memory, _start(memory)) == ["dog"]
    assert _emptied(memory) == {1: False, 2: True, 3: False}
    _rollback(memory, 0)
    assert _labels(memory, _start(memory)) == ["cat"]


def test_some_corrections_only(memory: Memory) -> None:
    submission = memory.submit({"one": "cat", "two": "dog"})
    ids = [one.id for one in submission.corrections]
    with pytest.raises(CorrectionMissing):
        _start(memory, correction_ids=ids)  # still gathering: they have a job
    with memory.writing() as session:
        cancel_job(session, submission.edit_job.id, now=NOON)
    assert _labels(memory, _start(memory, correction_ids=ids[1:])) == ["dog"]
    with pytest.raises(CorrectionMissing) as caught:
        _start(memory, correction_ids=["f" * 32])
    assert caught.value.key == "f" * 32


def test_a_forgotten_correction_in_the_live_version_allows_a_refit(memory: Memory) -> None:
    memory.edit({"one": "cat", "two": "dog"})
    with memory.reading() as session:
        ids = [row.id for row in job_corrections(session, list_jobs(session).items[0].id)]
    _forget(memory, ids[0])
    refit = _start(memory)
    assert (refit.size, refit.status) == (0, "queued")
    with pytest.raises(NothingToEdit):
        _start(memory)  # one such job is waiting already
    job = memory.claim()
    assert job is not None
    with memory.writing() as session:
        version = memory.record(session, job, correction_ids=ids[1:])
        promote(session, version, replaces=2, reason="refit", now=NOON)
        finish_job(session, job.id, job.attempt, status="succeeded", adapter=version, now=NOON)
    with pytest.raises(NothingToEdit):
        _start(memory)  # what is merged now never saw it


def test_what_is_forgotten_leaves_the_live_version_even_when_nothing_is_left(
    memory: Memory,
) -> None:
    memory.edit({"one": "cat"})
    with memory.reading() as session:
        [row] = job_corrections(session, list_jobs(session).items[0].id)
    _forget(memory, row.id)
    assert _start(memory).size == 0


def test_a_queued_job_is_cancelled_at_once(memory: Memory) -> None:
    job = memory.submit({"one": "cat"}).edit_job
    with memory.writing() as session:
        cancelled = cancel_job(session, job.id, now=NOON)
    assert (cancelled.status, cancelled.finished_at, cancelled.open) == ("cancelled", NOON, False)
    assert memory.claim() is None
    with memory.writing() as session, pytest.raises(JobFinished) as caught:
        cancel_job(session, job.id, now=NOON)
    assert caught.value.status == "cancelled"


def test_a_running_job_is_asked_to_stop(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    job = memory.claim()
    assert job is not None
    with memory.writing() as session:
        asked = cancel_job(session, job.id, now=NOON)
    assert (asked.status, asked.cancel_requested) == ("running", True)


def test_unknown_jobs_are_named(memory: Memory) -> None:
    with memory.writing() as session:
        with pytest.raises(JobMissing) as caught:
            get_job(session, "f" * 32)
        with pytest.raises(JobMissing):
            cancel_job(session, "f" * 32, now=NOON)
    assert caught.value.key == "f" * 32


def test_jobs_are_due_oldest_first_and_listed_newest_first(memory: Memory) -> None:
    first = memory.submit({"one": "cat"}, batch=1).edit_job
    second = memory.submit({"two": "cat"}, batch=1).edit_job
    third = memory.submit({"three": "cat"}).edit_job
    with memory.reading() as session:
        assert due_jobs(session, NOON) == [first.id, second.id]
        assert due_jobs(session, NOON + WAIT) == [first.id, second.id, third.id]
        assert due_jobs(session, NOON + WAIT, limit=2) == [first.id, second.id]
        page = list_jobs(session, limit=2)
        assert [row.id for row in page.items] == [third.id, second.id]
        rest = list_jobs(session, limit=2, cursor=page.next_cursor)
        assert ([row.id for row in rest.items], rest.next_cursor) == ([first.id], None)


def test_parallel_starts_close_one_job_once(memory: Memory) -> None:
    gathering = memory.submit({"one": "cat"}).edit_job
    outcomes = together(5, lambda _: _start(memory).id)
    assert outcomes.count(gathering.id) == 1
    assert sum(isinstance(one, NothingToEdit) for one in outcomes) == 4


def test_times_come_back_in_utc(memory: Memory) -> None:
    east = NOON.astimezone(tz=None) + timedelta(microseconds=5)
    job = memory.submit({"one": "cat"}, now=east).edit_job
    with memory.reading() as session:
        created = get_job(session, job.id).created_at
    assert created == east
    assert created.utcoffset() == timedelta(0)
