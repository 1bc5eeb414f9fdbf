"""Connections to PostgreSQL that do not wait for ever.

The driver's own time limits are the server's to keep, or end with the connection's making; a server
that is frozen keeps none. Here the client itself gives up: whatever it waits for (a statement, a
commit, the look before a connection is used again), it closes the connection then.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import Engine, event

from registry.patience import Line, seconds_left

WAIT_INTERVAL_S = 0.1
"""The driver's own, between two looks at signals."""
PING_SHARE = 0.5
"""Of the patience: a server that lives answers a ping at once, whoever holds which locks."""
CONNECT_AT_LEAST_S = 1.0
"""Nobody begins to connect with less time than this."""


class PatientConnection(psycopg.Connection[Any]):
    """Waits `patience` seconds for an answer, or as long as the caller's clock runs: whichever is
    less."""

    patience: float
    line: Line

    def wait(
        self,
        gen: PQGen[RV],
        interval: float = WAIT_INTERVAL_S,
        timeout: float | None = None,
    ) -> RV:
        """Raises psycopg.OperationalError, with the connection closed, when no answer came."""
        left = seconds_left()
        if left is not None and left <= 0:
            gen.close()  # nothing was sent
            raise self._given_up("the caller's time was over")
        # The engine switches to autocommit for its ping, and for nothing else.
        patience = self.patience * PING_SHARE if self.autocommit else self.patience
        limits = [limit for limit in (patience, left, timeout) if limit is not None]
        limit, began = min(limits), time.monotonic()
        try:
            answer = super().wait(gen, interval, limit)
        except psycopg.OperationalError as problem:
            waited = time.monotonic() - began
            if waited < limit or self.closed:
                raise
            if waited >= patience:
                self.line.missed()
            raise self._given_up(f"no answer within {waited:.1f} s") from problem
        self.line.heard()
        return answer

    def _given_up(self, reason: str) -> psycopg.OperationalError:
        self.close()
        return psycopg.OperationalError(reason)


def connect_patiently(engine: Engine, line: Line, patience: float) -> None:
    """Lets the engine make such connections from now on."""

    def connect(
        _dialect: object, _record: object, arguments: Any, options: Any
    ) -> PatientConnection:
        left, began = seconds_left(), time.monotonic()
        if left is not None and left < CONNECT_AT_LEAST_S:
            raise psycopg.OperationalError("too little of the caller's time was left to connect")
        try:
            connection = PatientConnection.connect(*arguments, **options)
        except psycopg.OperationalError:
            if time.monotonic() - began >= options["connect_timeout"]:
                line.missed()
            raise
        connection.patience, connection.line = patience, line
        line.heard()
        return connection

    event.listen(engine, "do_connect", connect)
