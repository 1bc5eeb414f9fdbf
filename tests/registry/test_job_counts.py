from __future__ import annotations

from sqlalchemy import func, select

from registry.claims import finish_job
from registry.job_counts import JobCounts
from registry.tables import EditJob
from tests.support.database import NOON, Memory, together


def _read(memory: Memory, counts: JobCounts) -> dict[str, int]:
    with memory.reading() as session:
        return counts.read(session)


def _counted_anew(memory: Memory) -> dict[str, int]:
    with memory.reading() as session:
        query = select(EditJob.status, func.count()).group_by(EditJob.status)
        return dict(session.execute(query).all())


def test_jobs_are_counted_by_status(memory: Memory) -> None:
    counts = JobCounts()
    assert _read(memory, counts) == {}
    memory.edit({"one": "cat"})
    memory.edit({"two": "cat"}, verdict="rejected")
    memory.submit({"three": "cat"})
    assert _read(memory, counts) == {"succeeded": 1, "rejected": 1, "queued": 1}


def test_a_job_is_counted_where_it_is_now_and_once(memory: Memory) -> None:
    """Each step is looked at with a memory of all earlier ones and with none."""
    counts = JobCounts()
    memory.edit({"one": "cat"})
    _read(memory, counts)
    memory.submit({"two": "cat"})
    steps = [_read(memory, counts)]
    job = memory.claim()
    assert job is not None
    memory.submit({"three": "cat"})
    steps.append(_read(memory, counts))
    with memory.writing() as session:
        finish_job(session, job.id, job.attempt, status="rejected", now=NOON)
    steps.append(_read(memory, counts))
    assert steps == [
        {"succeeded": 1, "queued": 1},
        {"succeeded": 1, "running": 1, "queued": 1},
        {"succeeded": 1, "rejected": 1, "queued": 1},
    ]
    assert _read(memory, counts) == _counted_anew(memory) == _read(memory, JobCounts())


def test_threads_share_one_memory(memory: Memory) -> None:
    counts = JobCounts()
    for number in range(3):
        memory.edit({f"image {number}": "cat"})
    assert together(4, lambda _: _read(memory, counts)) == [{"succeeded": 3}] * 4
    assert _read(memory, counts) == {"succeeded": 3}
