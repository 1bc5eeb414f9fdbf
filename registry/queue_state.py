"""How the edit queue stands, for those who operate the service.

Cheap however many jobs have ended: every query reads the few that have not, or one row at the end
of an index, once a process has counted those that were there. All times are seconds by the clock of
the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.job_counts import JobCounts
from registry.promotions import find_live_promotion
from registry.tables import EditJob

JUDGED = ("succeeded", "rejected", "failed")
"""Ends of a job that a worker has run."""


@dataclass(frozen=True)
class QueueState:
    """`newest_seconds`: from start to end, of the newest job of each end that a job has come to."""

    jobs: Mapping[str, int]
    oldest_due_seconds: float
    """How long the longest waiting job could have run already; 0 when none is due."""
    heartbeat_age_seconds: float
    """Of the running job that was silent for longest; 0 when none runs."""
    lost_attempts: int
    """Attempts whose worker went silent, of the jobs that have not ended."""
    newest_seconds: Mapping[str, float]
    promoted: int | None
    """The version that should be served; None before the first start."""


def queue_state(session: Session, *, now: datetime, counts: JobCounts | None = None) -> QueueState:
    """The queue at this moment. `counts` is what the process remembers; without it all jobs are
    counted."""
    unfinished = (
        select(
            EditJob.status,
            func.min(EditJob.starts_at),
            func.min(EditJob.heartbeat),
            func.sum(EditJob.lost),
        )
        .where(EditJob.status.in_(("queued", "running")))
        .group_by(EditJob.status)
    )
    due = silent = 0.0
    lost = 0
    for status, starts_at, heartbeat, lost_here in session.execute(unfinished):
        lost += lost_here
        if status == "queued":
            due = _age(starts_at, now)
        elif heartbeat is not None:
            silent = _age(heartbeat, now)
    live = find_live_promotion(session)
    return QueueState(
        jobs=(counts or JobCounts()).read(session),
        oldest_due_seconds=due,
        heartbeat_age_seconds=silent,
        lost_attempts=lost,
        newest_seconds=_newest_seconds(session),
        promoted=None if live is None else live.version,
    )


def _newest_seconds(session: Session) -> dict[str, float]:
    found: dict[str, float] = {}
    for status in JUDGED:
        newest = (
            select(EditJob.started_at, EditJob.finished_at)
            .where(EditJob.status == status)
            .order_by(EditJob.number.desc())
            .limit(1)
        )
        for started_at, finished_at in session.execute(newest):
            if started_at is not None and finished_at is not None:
                found[status] = _age(started_at, finished_at)
    return found


def _age(then: datetime, now: datetime) -> float:
    """Seconds; 0 for what is still to come, or stamped by a clock that is ahead."""
    return max((now - then).total_seconds(), 0.0)
