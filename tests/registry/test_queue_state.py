"""How the queue stands, as a scrape asks."""

from __future__ import annotations

from datetime import timedelta

from registry.claims import finish_job, reclaim_expired
from registry.queue_state import QueueState, queue_state
from tests.support.database import NOON, WAIT, Memory

LATER = NOON + timedelta(minutes=10)


def _state(memory: Memory) -> QueueState:
    with memory.reading() as session:
        return queue_state(session, now=LATER)


def test_an_empty_queue_waits_for_nothing(memory: Memory) -> None:
    assert _state(memory) == QueueState({}, 0.0, 0.0, 0, {}, promoted=0)


def test_the_longest_wait_is_that_of_the_oldest_due_job(memory: Memory) -> None:
    memory.submit({"one": "cat"}, wait=timedelta(hours=1))
    assert _state(memory).oldest_due_seconds == 0  # it gathers until then
    memory.submit({"two": "cat"}, batch=1)  # it is full: due at noon
    assert _state(memory).oldest_due_seconds == 600


def test_a_running_job_is_as_old_as_its_last_sign_of_life(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    assert memory.claim(now=NOON + WAIT) is not None
    state = _state(memory)
    assert (state.oldest_due_seconds, state.heartbeat_age_seconds) == (0, 595)
    assert state.jobs == {"running": 1}


def test_lost_attempts_are_those_of_jobs_that_have_not_ended(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    for round_ in range(1, 3):
        now = NOON + round_ * timedelta(minutes=1)
        assert memory.claim(now=now) is not None
        late = now + timedelta(seconds=30)
        with memory.writing() as session:
            assert reclaim_expired(session, now=late, lease=timedelta(seconds=10), max_attempts=3)
        assert _state(memory).lost_attempts == round_
    job = memory.claim(now=LATER)
    assert job is not None
    with memory.writing() as session:
        finish_job(session, job.id, job.attempt, status="rejected", now=LATER)
    assert _state(memory).lost_attempts == 0


def test_the_newest_job_of_each_end_says_how_long_it_ran(memory: Memory) -> None:
    for seconds, status in ((30, "succeeded"), (7, "succeeded"), (4, "rejected")):
        memory.submit({f"{status} {seconds}": "cat"}, batch=1)
        job = memory.claim(now=NOON)
        assert job is not None
        end = NOON + timedelta(seconds=seconds)
        with memory.writing() as session:
            finish_job(session, job.id, job.attempt, status=status, now=end)  # type: ignore[arg-type]
    assert _state(memory).newest_seconds == {"succeeded": 7, "rejected": 4}
