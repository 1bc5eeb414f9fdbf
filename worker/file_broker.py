"""The embedded broker's reading side, proof against half-written messages.

Kombu's filesystem transport writes messages in place, so a reader can meet one before its text is
there and would die of it. Such a message is dropped: it was only a nudge.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem

log = logging.getLogger(__name__)
SCHEME = "emend-files"
LOOK_SECONDS = 0.3


class Channel(filesystem.Channel):
    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002
        try:
            return super()._get(queue)
        except ValueError as damage:
            log.info("a half-written nudge was dropped: %s", damage)
            raise Empty from damage


class Transport(filesystem.Transport):
    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **known: Any) -> None:
        """Looks for messages; gives up soon, so that a stop is noticed soon."""
        timeout = LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS)
        super().drain_events(connection, timeout=timeout, **known)


def broker_url() -> str:
    """The URL under which Celery finds this transport."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:{Transport.__name__}"
    return f"{SCHEME}://localhost//"
