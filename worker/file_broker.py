"""The embedded broker at the worker's end, proof against half-written files.

Kombu's filesystem transport writes in place and never syncs, so a reader can meet a file before its
text is there, or after a power cut without any, and would die of it. Such a message is dropped: it
was only a nudge. Such a list of an exchange's queues is written anew: all that stands in it is what
each process binds for itself.
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

    def get_table(self, exchange: str) -> Any:
        try:
            return super().get_table(exchange)
        except ValueError as damage:
            self._discard_table(exchange, damage)
            # What this process has bound; the transport's own version reads the file.
            for binding in (self.state.exchanges or {})[exchange]["table"]:
                super()._queue_bind(exchange, *binding)
            return super().get_table(exchange)

    def _queue_bind(self, exchange: str, routing_key: Any, pattern: Any, queue: Any) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except ValueError as damage:
            self._discard_table(exchange, damage)
            super()._queue_bind(exchange, routing_key, pattern, queue)

    def _discard_table(self, exchange: str, damage: ValueError) -> None:
        log.warning("the broker's list of queues was damaged and is written anew: %s", damage)
        (self.control_folder / f"{exchange}.exchange").unlink(missing_ok=True)


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
