from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from registry.adapters import list_adapters
from registry.claims import (
    claim_job,
    fail_job,
    finish_job,
    heartbeat,
    hold_claim,
    reclaim_expired,
    release_job,
)
from registry.corrections import get_correction, record_outcome
from registry.edit_jobs import cancel_job, get_job, start_job
from registry.errors import ClaimLost
from registry.promotions import list_promotions, live_promotion, promote
from registry.tables import EditJob
from tests.support.database import BASE, NOON, WAIT, Memory, sqlite_memory, together

LEASE = timedelta(seconds=10)
LATER = NOON + WAIT + timedelta(minutes=1)


def _job(memory: Memory, job_id: str) -> EditJob:
    with memory.reading() as session:
        return get_job(session, job_id)


def _claimed(memory: Memory, *, worker: str = "worker") -> EditJob:
    job = memory.claim(worker=worker)
    assert job is not None
    return job


def _reclaim(memory: Memory, *, max_attempts: int = 3) -> list[str]:
    with memory.writing() as session:
        return reclaim_expired(session, now=LATER, lease=LEASE, max_attempts=max_attempts)


def test_the_oldest_due_job_is_claimed_with_the_live_version_as_parent(memory: Memory) -> None:
    memory.edit({"zero": "cat"})
    first = memory.submit({"one": "cat"}, batch=1).edit_job
    memory.submit({"two": "cat"}, batch=1)
    job = _claimed(memory, worker="hands")
    assert (job.id, job.status, job.attempt, job.worker) == (first.id, "running", 1, "hands")
    assert (job.parent, job.open, job.started_at) == (1, False, NOON + WAIT)
    assert job.heartbeat == NOON + WAIT


def test_nothing_is_claimed_before_it_is_due(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    assert memory.claim(now=NOON) is None
    assert memory.claim(now=NOON + WAIT) is not None


def test_edits_of_one_encoder_run_one_at_a_time(memory: Memory) -> None:
    memory.submit({"one": "cat"}, batch=1)
    second = memory.submit({"two": "cat"}, batch=1).edit_job
    job = _claimed(memory)
    assert memory.claim() is None
    with memory.writing() as session:
        finish_job(session, job.id, 1, status="rejected", report={"reason": "no"}, now=NOON)
    assert _claimed(memory).id == second.id


def test_the_database_itself_refuses_a_second_running_job(memory: Memory) -> None:
    memory.submit({"one": "cat"}, batch=1)
    second = memory.submit({"two": "cat"}, batch=1).edit_job
    _claimed(memory)
    with pytest.raises(IntegrityError), memory.writing() as session:
        get_job(session, second.id).status = "running"


def test_of_parallel_claims_one_wins(memory: Memory) -> None:
    for number in range(3):
        memory.submit({f"image {number}": "cat"}, batch=1)
    outcomes = together(6, lambda index: memory.claim(worker=f"worker {index}"))
    won = [one for one in outcomes if isinstance(one, EditJob)]
    assert len(won) == 1
    assert outcomes.count(None) == 5
    assert _job(memory, won[0].id).worker == won[0].worker


def test_of_processes_that_claim_and_promote_at_once_one_wins(tmp_path: Path) -> None:
    with sqlite_memory(tmp_path) as memory:
        memory.submit({"one": "cat"}, batch=1)
        memory.submit({"two": "cat"}, batch=1)
        script = (
            "import sys\n"
            "from pathlib import Path\n"
            "from registry.errors import PromotionConflict\n"
            "from registry.promotions import promote\n"
            "from tests.support.database import NOON, opened_memory\n"
            "with opened_memory(sys.argv[1], Path(sys.argv[2])) as memory:\n"
            "    print('ready', flush=True)\n"
            "    sys.stdin.readline()\n"
            "    claimed = memory.claim(worker=sys.argv[3]) is not None\n"
            "    try:\n"
            "        with memory.writing() as session:\n"
            "            promote(session, 0, replaces=1, reason='race', now=NOON)\n"
            "        print(claimed, 'promoted')\n"
            "    except PromotionConflict:\n"
            "        print(claimed, 'refused')\n"
        )
        interpreter = [sys.executable, "-W", "error", "-c", script]
        workers = [
            subprocess.Popen(
                [*interpreter, memory.url, str(tmp_path / "artifacts"), str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(3)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        said = [worker.communicate(timeout=60)[0].split() for worker in workers]
        assert sorted(claimed for claimed, _ in said) == ["False", "False", "True"]
        assert sorted(outcome for _, outcome in said) == ["promoted", "refused", "refused"]


def test_a_heartbeat_carries_progress_and_brings_back_a_cancellation(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)
    progress = {"phase": "training", "step": 3, "steps": 50, "loss": 0.25}
    with memory.writing() as session:
        assert heartbeat(session, job.id, 1, progress=progress, now=LATER) is False
    with memory.writing() as session:
        cancel_job(session, job.id, now=LATER)
    with memory.writing() as session:
        assert heartbeat(session, job.id, 1, now=LATER) is True
    row = _job(memory, job.id)
    assert (row.progress, row.heartbeat) == (progress, LATER)


def test_a_loss_that_is_no_number_is_kept_as_none(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)
    with memory.writing() as session:
        heartbeat(session, job.id, 1, progress={"step": 3, "loss": float("nan")}, now=LATER)
    assert _job(memory, job.id).progress == {"step": 3, "loss": None}


def test_a_job_whose_heartbeat_stopped_is_queued_again(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)
    with memory.writing() as session:
        heartbeat(session, job.id, 1, now=LATER - LEASE)
    assert _reclaim(memory) == [], "it still lives"
    with memory.writing() as session:
        heartbeat(session, job.id, 1, now=LATER - LEASE - timedelta(milliseconds=1))
    assert _reclaim(memory) == [job.id]
    row = _job(memory, job.id)
    assert (row.status, row.worker, row.heartbeat, row.lost) == ("queued", None, None, 1)
    again = _claimed(memory)
    assert (again.id, again.attempt) == (job.id, 2)


@pytest.mark.parametrize("taken_by", ["nobody yet", "another worker", "its own end"])
def test_a_worker_that_lost_its_claim_cannot_write(memory: Memory, taken_by: str) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)
    if taken_by == "its own end":
        with memory.writing() as session:
            finish_job(session, job.id, 1, status="succeeded", now=NOON)
    else:
        _reclaim(memory)
        if taken_by == "another worker":
            _claimed(memory, worker="other")
    before = vars(_job(memory, job.id)).copy()
    writes: list[Any] = [
        lambda session: heartbeat(session, job.id, 1, progress={"phase": "x"}, now=LATER),
        lambda session: finish_job(session, job.id, 1, status="succeeded", now=LATER),
        lambda session: fail_job(session, job.id, 1, error={"detail": "x"}, now=LATER),
        lambda session: release_job(session, job.id, 1, now=LATER),
        lambda session: hold_claim(session, job.id, 1),
    ]
    for write in writes:
        with pytest.raises(ClaimLost) as caught, memory.writing() as session:
            write(session)
        assert (caught.value.job_id, caught.value.attempt) == (job.id, 1)
    after = vars(_job(memory, job.id))
    before.pop("_sa_instance_state")
    assert before == {key: after[key] for key in before}


def test_the_end_of_a_lost_attempt_takes_its_adapter_and_promotion_with_it(memory: Memory) -> None:
    correction = memory.submit({"one": "cat"}).corrections[0].id
    job = _claimed(memory)
    _reclaim(memory)

    def end() -> None:
        with memory.writing() as session:
            version = memory.record(session, job)
            promote(session, version, replaces=1, reason="late", edit_job_id=job.id, now=LATER)
            record_outcome(session, correction, before=None, after={"label": "x"})
            finish_job(session, job.id, 1, status="succeeded", adapter=version, now=LATER)

    with pytest.raises(ClaimLost):
        end()
    with memory.reading() as session:
        assert [row.version for row in list_adapters(session).items] == [0]
        assert len(list_promotions(session).items) == 1
        assert live_promotion(session).version == 0
        assert get_correction(session, correction).after is None


def test_of_two_workers_with_one_job_one_finishes(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)

    def finish(_: int) -> int:
        with memory.writing() as session:
            hold_claim(session, job.id, 1)
            version = memory.record(session, job)
            promote(session, version, replaces=1, reason="gate", edit_job_id=job.id, now=LATER)
            finish_job(session, job.id, 1, status="succeeded", adapter=version, now=LATER)
            return version

    outcomes = together(4, finish)
    assert outcomes.count(1) == 1
    assert sum(isinstance(one, ClaimLost) for one in outcomes) == 3
    assert _job(memory, job.id).adapter == 1


def test_a_poisonous_job_fails_with_its_error_kept(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    for attempt in (1, 2):
        job = _claimed(memory)
        with memory.writing() as session:
            heartbeat(session, job.id, attempt, progress={"phase": "gating"}, now=NOON)
        assert _reclaim(memory, max_attempts=2) == [job.id]
    row = _job(memory, job.id)
    assert (row.status, row.finished_at) == ("failed", LATER)
    assert row.error == {
        "type": "worker-lost",
        "detail": "the worker stopped answering in 2 attempts",
        "attempts": 2,
        "worker": "worker",
        "progress": {"phase": "gating"},
    }
    assert memory.claim() is None


def test_a_released_job_is_not_counted_as_lost(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    for attempt in range(1, 6):
        job = _claimed(memory)
        assert job.attempt == attempt
        with memory.writing() as session:
            released = release_job(session, job.id, attempt, now=LATER)
        assert (released.status, released.lost) == ("queued", 0)
    assert _reclaim(memory, max_attempts=1) == []


@pytest.mark.parametrize("how", ["reclaimed", "released"])
def test_a_job_that_was_to_be_cancelled_is_not_run_again(memory: Memory, how: str) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)
    with memory.writing() as session:
        cancel_job(session, job.id, now=NOON)
    if how == "reclaimed":
        _reclaim(memory, max_attempts=1)
    else:
        with memory.writing() as session:
            release_job(session, job.id, 1, now=NOON)
    row = _job(memory, job.id)
    assert (row.status, row.error) == ("cancelled", None)
    assert memory.claim() is None


def test_a_failed_job_keeps_its_error_and_leaves_live_alone(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)
    error = {"type": "loss-diverged", "detail": "the loss is not finite", "step": 4}
    with memory.writing() as session:
        fail_job(session, job.id, 1, error=error, now=LATER)
    row = _job(memory, job.id)
    assert (row.status, row.error, row.finished_at) == ("failed", error, LATER)
    with memory.reading() as session:
        assert live_promotion(session).version == 0


def test_parallel_sweeps_take_a_job_back_once(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    job = _claimed(memory)
    outcomes = together(4, lambda _: _reclaim(memory))
    assert sorted(map(len, outcomes)) == [0, 0, 0, 1]  # type: ignore[arg-type]
    assert _job(memory, job.id).lost == 1


def test_jobs_of_another_base_encoder_do_not_wait_for_each_other(memory: Memory) -> None:
    memory.submit({"one": "cat"}, batch=1)
    _claimed(memory)
    memory.submit({"two": "cat"})
    with memory.writing() as session:
        job = start_job(session, method="lorsu", config={}, seed=0, base_digest=BASE, now=NOON)
        job.base_digest = "f" * 64
    with memory.writing() as session:
        other = claim_job(session, worker="w", now=NOON)
        assert other is not None
        assert other.id == job.id
