"""How a replica stands towards what it should serve: does the database answer it, which promotion
could it not serve, since when, and when does it try that again.

What is wrong is told in words that any client may read; the log has the whole of it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from app.errors import ReplicaBehind
from app.metrics import Metrics
from app.problems import told
from registry.errors import DatabaseUnavailable, RegistryError
from registry.tables import Promotion

logger = logging.getLogger(__name__)
SILENT_AFTER = 1.5  # seconds; a database that lives answers a look in milliseconds
FIRST_PAUSE = 0.2  # seconds before a promotion is tried again; doubled each time
LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Setback:
    """A promotion that could not be served when last tried. Times are on the monotonic clock."""

    promotion: int
    version: int
    reason: str
    since: float  # when this replica fell behind, be it with an earlier promotion
    pause: float
    again_at: float


class Standing:
    """Written by the thread that follows the promotions, read by requests."""

    def __init__(self, grace: float, metrics: Metrics) -> None:
        """``grace``: seconds for which a replica that serves an earlier version counts as ready."""
        self._grace = grace
        self._metrics = metrics
        self._setback: Setback | None = None
        self._outage: RegistryError | None = None
        self._asked_at: float | None = None

    @property
    def setback(self) -> Setback | None:
        """What cannot be served at present."""
        return self._setback

    def asks(self) -> None:
        """The database is being asked for the last promotion."""
        self._asked_at = time.monotonic()

    def heard(self, outage: RegistryError | None = None) -> None:
        """It has answered, or could not be asked."""
        if outage is not None and self._outage is None:
            logger.error("the promotions cannot be followed: %s", outage)
        if outage is None and self._outage is not None:
            logger.info("the promotions are followed again")
        self._outage, self._asked_at = outage, None

    def failed_with(self, promotion: Promotion) -> bool:
        """Whether this promotion could not be served when last tried."""
        return self._setback is not None and self._setback.promotion == promotion.id

    def may_try(self, promotion: Promotion) -> bool:
        """At once for a new one; one that failed rests first, longer each time."""
        setback = self._setback
        if setback is None or setback.promotion != promotion.id:
            return True
        return time.monotonic() >= setback.again_at

    def fail(self, promotion: Promotion, error: Exception) -> None:
        """Takes down that a promotion cannot be served."""
        now, before = time.monotonic(), self._setback
        again = before is not None and before.promotion == promotion.id
        pause = min(before.pause * 2, LONGEST_PAUSE) if before and again else FIRST_PAUSE
        reason = told(error)
        if before is None or not again or before.reason != reason:
            logger.error("version %d cannot be served: %s", promotion.version, error)
        since = now if before is None else before.since
        self._setback = Setback(
            promotion.id, promotion.version, reason, since, pause, again_at=now + pause
        )
        self._metrics.live_unserved.set(1)

    def serves(self) -> None:
        """The last promotion is served."""
        self._setback = None
        self._metrics.live_unserved.set(0)

    def check(self, live: int) -> None:
        """Raises `ReplicaBehind` or `DatabaseUnavailable` where the replica is not ready.

        The database counts at once: most of what is asked needs it.
        """
        now, setback, asked_at = time.monotonic(), self._setback, self._asked_at
        if setback is not None and now - setback.since >= self._grace:
            raise ReplicaBehind(setback.version, live, setback.reason, now - setback.since)
        if self._outage is not None:
            raise DatabaseUnavailable("of the promotions", told(self._outage))
        if asked_at is not None and now - asked_at > SILENT_AFTER:
            raise DatabaseUnavailable(
                "of the promotions", f"it has not answered for {now - asked_at:.1f} s"
            )
