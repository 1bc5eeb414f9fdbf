"""The pulse of a running job, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from editing.errors import EditCancelled
from registry.claims import finish_job, reclaim_expired
from registry.edit_jobs import cancel_job, get_job
from registry.promotions import live_promotion, promote
from registry.tables import EditJob
from tests.support.database import Memory
from tests.support.waiting import wait_for
from worker.errors import ClaimMoved, LiveChanged, WorkerStopping
from worker.heartbeat import Pulse


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def job(memory: Memory) -> EditJob:
    memory.submit({"image": "stop"}, now=datetime.now(UTC) - timedelta(minutes=1))
    job = memory.claim(now=datetime.now(UTC))
    assert job is not None
    return job


def pulse(memory: Memory, job: EditJob, *, stopping: Callable[[], bool] = lambda: False) -> Pulse:
    return Pulse(memory.engine, job, parent=0, every=0.02, lease=10, stopping=stopping)


def stored(memory: Memory, job: EditJob) -> EditJob:
    with memory.reading() as session:
        return get_job(session, job.id)


def reports_until(pulse: Pulse, news: type[Exception]) -> bool:
    """Works on until the pulse brings bad news of this kind."""

    def heard() -> bool:
        try:
            pulse.report("training", 1, 9, 0.5)
        except news:
            return True
        except WorkerStopping:  # said by `report` itself until the pulse has news
            return False
        return False

    return wait_for(heard, seconds=10, what=news.__name__)


def test_writes_progress_and_keeps_the_claim(memory: Memory, job: EditJob) -> None:
    with pulse(memory, job) as beating:
        beating.report("training", 3, 9, 0.5)
        wait_for(lambda: stored(memory, job).progress["step"] == 3, seconds=10, what="progress")
        before = stored(memory, job).heartbeat
        assert before is not None
        wait_for(lambda: stored(memory, job).heartbeat != before, seconds=10, what="a beat")
    assert stored(memory, job).progress["phase"] == "training"


def test_a_loss_that_is_no_number_is_left_out(memory: Memory, job: EditJob) -> None:
    with pulse(memory, job) as beating:
        beating.report("training", 4, 9, float("nan"))
        wait_for(lambda: stored(memory, job).progress["step"] == 4, seconds=10, what="progress")
    assert stored(memory, job).progress["loss"] is None


def test_brings_the_cancellation(memory: Memory, job: EditJob) -> None:
    with pulse(memory, job) as beating:
        beating.report("training", 0, 9, None)
        with memory.writing() as session:
            cancel_job(session, job.id, now=datetime.now(UTC))
        assert reports_until(beating, EditCancelled)


def test_notices_that_the_job_was_taken_back(memory: Memory, job: EditJob) -> None:
    def take_back() -> list[str]:
        """Passes over a row that a beat holds at that moment, as the sweep does."""
        with memory.writing() as session:
            return reclaim_expired(
                session,
                now=datetime.now(UTC) + timedelta(hours=1),
                lease=timedelta(seconds=1),
                max_attempts=3,
            )

    with pulse(memory, job) as beating:
        assert wait_for(take_back, seconds=10, what="the job to be free")
        assert reports_until(beating, ClaimMoved)
    assert stored(memory, job).status == "queued"


def test_notices_that_another_version_is_live(memory: Memory, job: EditJob) -> None:
    with pulse(memory, job) as beating:
        with memory.writing() as session:
            version = memory.record(session, job)
            live = live_promotion(session)
            promote(session, version, replaces=live.id, reason="by hand", now=datetime.now(UTC))
        assert reports_until(beating, LiveChanged)


def test_stops_the_work_when_the_worker_stops(memory: Memory, job: EditJob) -> None:
    with (
        pulse(memory, job, stopping=lambda: True) as beating,
        pytest.raises(WorkerStopping),
    ):
        beating.report("training", 0, 9, None)


def test_gives_the_job_back_while_the_work_is_in_a_long_step(memory: Memory, job: EditJob) -> None:
    stopping = threading.Event()
    beats_rarely = Pulse(
        memory.engine, job, parent=0, every=600, lease=10, stopping=stopping.is_set
    )
    with beats_rarely as beating:
        beating.report("training", 0, 9, None)
        stopping.set()
        wait_for(lambda: stored(memory, job).status == "queued", seconds=10, what="the release")
        with pytest.raises(WorkerStopping):
            beating.report("training", 1, 9, None)
    assert (stored(memory, job).lost, stored(memory, job).worker) == (0, None)


def test_a_job_that_ended_before_the_stop_stays_as_it_is(memory: Memory, job: EditJob) -> None:
    with memory.writing() as session:
        finish_job(session, job.id, job.attempt, status="cancelled", now=datetime.now(UTC))
    with pulse(memory, job, stopping=lambda: True) as beating:
        assert reports_until(beating, ClaimMoved)
    assert stored(memory, job).status == "cancelled"


def test_beats_no_more_once_the_work_is_done(memory: Memory, job: EditJob) -> None:
    with pulse(memory, job):
        pass
    with memory.writing() as session:
        get_job(session, job.id).progress = {"phase": "untouched"}
    assert stored(memory, job).progress == {"phase": "untouched"}
