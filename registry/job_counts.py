"""How many edit jobs there are in each state, without counting all of them each time."""

from __future__ import annotations

import threading
from collections import Counter

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.tables import EditJob

UNFINISHED = ("queued", "running")


class JobCounts:
    """Remembers, for one process, what can never change: jobs that ended before every job that has
    not. Only the first look counts all. Safe to share between threads.

    Numbers are given out in turn (`take_turn`), so no job appears later below one that was seen.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._through = 0
        """Jobs up to this number are in `_ended`."""
        self._ended: Counter[str] = Counter()

    def read(self, session: Session) -> dict[str, int]:
        """Each status that any job has."""
        with self._lock:
            through = self._last_settled(session)
            self._ended += _counted(session, self._through, through)
            self._through = through
            return dict(self._ended + _counted(session, through, None))

    def _last_settled(self, session: Session) -> int:
        """The highest number below which no job is queued or running."""
        last = session.scalar(select(func.max(EditJob.number))) or 0
        # All in one statement: between two a job could be given back and be seen by neither.
        first = [
            select(func.min(EditJob.number)).where(EditJob.status == status).scalar_subquery()
            for status in UNFINISHED
        ]
        unfinished: list[int | None] = list(session.execute(select(*first)).one())
        settled = [number - 1 for number in unfinished if number is not None]
        return max(min([last, *settled]), self._through)


def _counted(session: Session, after: int, through: int | None) -> Counter[str]:
    query = select(EditJob.status, func.count()).where(EditJob.number > after)
    if through is not None:
        query = query.where(EditJob.number <= through)
    rows = session.execute(query.group_by(EditJob.status))
    return Counter(dict(rows.all()))
