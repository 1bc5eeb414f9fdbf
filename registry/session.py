"""Opening the database, and the two kinds of transaction.

SQLite: WAL, foreign keys on, a busy timeout, and `BEGIN IMMEDIATE` for writing, so a writer waits
for its turn at the start and never fails in the middle. The driver's own habit of opening
transactions late is switched off. PostgreSQL: READ COMMITTED with the same lock timeout. There the
server ends what takes too long, and the client gives up where the server is silent.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from registry.addresses import shown
from registry.errors import DatabaseUnavailable, OutcomeUnknown, StorageFull
from registry.patience import Line, NoAnswer

PATIENCE_S = 60.0
"""For an answer of the database, unless decided otherwise; below it, in this order: the server's
limits for a statement and for a lock, so that who waits for others is told so by the server."""
STATEMENT_SHARE = 0.9
LOCK_SHARE = 0.75
LOCK_TIMEOUT_S = 10
LOCK_RETRY_S = 0.01
CONNECT_TIMEOUT_S = 5
IDLE_TIMEOUT_S = 30
"""In the middle of a transaction: a process that is frozen there must not keep its locks."""
SPARE_CONNECTIONS = 40
"""Opened beyond the five that are kept, while requests need them."""
_TURN = 0x454D454E44
"""PostgreSQL advisory lock of `take_turn`: "EMEND" in ASCII."""
_FULL = {"SQLITE_FULL", "53100"}
_READ_ONLY = "25006"
_LINE = "emend_line"
_UNUSABLE = {"SQLITE_NOTADB", "SQLITE_CORRUPT", "42501", "3F000"}
"""Damaged, or the server does not let this role work there: no privilege, no schema."""
UNREADABLE_URL = "its port, or one of its options, cannot be read"
"""Told in place of the parser's words, which quote what may be a password."""


def open_database(
    url: str, *, foreign_keys: bool = True, patience: float | None = PATIENCE_S
) -> Engine:
    """An engine for `sqlite:///file` or `postgresql://…`; opens no connection yet.

    `patience` is the seconds that it waits for any one answer; None is for migrations, whose
    statements take as long as they take, and so is `foreign_keys=False`, for those that rebuild
    tables on SQLite.

    Raises DatabaseUnavailable for a URL that cannot be used.
    """
    lock_timeout = (
        LOCK_TIMEOUT_S if patience is None else min(LOCK_TIMEOUT_S, patience * LOCK_SHARE)
    )
    try:
        parsed = make_url(url)
        if "@" in (parsed.host or ""):  # or what is behind it would be told as the host
            raise DatabaseUnavailable("given by URL", "an @ in its password is written as %40")
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite":
            return _open_sqlite(parsed, lock_timeout, foreign_keys=foreign_keys)
        if parsed.get_backend_name() == "postgresql":
            return _open_postgresql(parsed, lock_timeout, patience)
    except (ArgumentError, NoSuchModuleError, ImportError) as problem:
        raise DatabaseUnavailable(_shown(url), str(problem)) from problem
    except (ValueError, TypeError) as problem:
        raise DatabaseUnavailable(_shown(url), UNREADABLE_URL) from problem
    raise DatabaseUnavailable(_shown(url), "only sqlite:// and postgresql:// are supported")


def close_database(engine: Engine) -> None:
    """Closes every connection: the idle ones now, and what a thread still uses when it is done."""

    def close(_driver_connection: object, record: ConnectionPoolEntry) -> None:
        record.close()

    event.listen(engine, "checkin", close)
    engine.dispose()


def _open_postgresql(url: URL, lock_timeout: float, patience: float | None) -> Engine:
    from registry.postgres import connect_patiently  # its driver is an extra

    limits = {"lock_timeout": lock_timeout}
    if patience is not None:
        limits["statement_timeout"] = patience * STATEMENT_SHARE
        limits["idle_in_transaction_session_timeout"] = IDLE_TIMEOUT_S
    options = "".join(f"-c {name}={round(value * 1000)} " for name, value in limits.items())
    connect_timeout = (
        CONNECT_TIMEOUT_S if patience is None else min(CONNECT_TIMEOUT_S, patience / 2)
    )
    line = Line()
    engine = create_engine(
        url,
        json_serializer=json_text,
        pool_pre_ping=True,
        max_overflow=SPARE_CONNECTIONS,
        pool_timeout=lock_timeout,
        execution_options={_LINE: line},
        connect_args={
            "connect_timeout": math.ceil(connect_timeout),
            "options": f"{options}-c timezone=UTC",
        },
    )
    if patience is not None:
        connect_patiently(engine, line, patience)
    event.listen(engine, "handle_error", _leave_a_server_that_only_reads)
    return engine


def _leave_a_server_that_only_reads(context: ExceptionContext) -> None:
    """After a failover the old connections lead to a standby: as if lost, they are made anew."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


def _open_sqlite(url: URL, lock_timeout: float, *, foreign_keys: bool) -> Engine:
    if not url.database or url.database == ":memory:":
        raise DatabaseUnavailable(str(url), "a file is needed: sqlite:///path/to/emend.db")
    engine = create_engine(
        url,
        json_serializer=json_text,
        max_overflow=SPARE_CONNECTIONS,
        pool_timeout=lock_timeout,
        connect_args={"timeout": lock_timeout, "check_same_thread": False},
    )

    def prepare(driver_connection: Any, _record: object) -> None:
        driver_connection.isolation_level = None  # the driver opens no transaction by itself
        for pragma in (
            f"busy_timeout={round(lock_timeout * 1000)}",
            "synchronous=FULL",  # an accepted correction outlives a power cut
            f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
        ):
            driver_connection.execute(f"PRAGMA {pragma}")
        _use_write_ahead_log(driver_connection, lock_timeout)

    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("emend_writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _use_write_ahead_log(connection: sqlite3.Connection, seconds: float) -> None:
    """Once for a file, then without effect.

    Of connections that switch a new file at the same time SQLite refuses all but one at once,
    whatever the busy timeout, because waiting could be a deadlock: here the others ask again.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as refused:
            busy = refused.sqlite_errorname.startswith("SQLITE_BUSY")
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(LOCK_RETRY_S)


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One writing transaction: commits at the end of the block, rolls back when it raises.

    Raises DatabaseUnavailable (unreachable, locked for too long, unwritable) or StorageFull, and
    nothing was changed; OutcomeUnknown where the connection was lost while it committed.
    """
    writer = engine.execution_options(emend_writing=True)
    with (
        translated_errors(engine),
        _asked(engine),
        Session(writer, expire_on_commit=False) as session,
    ):
        yield session
        session.flush()
        with translated_errors(engine, committing=True):
            session.commit()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One transaction that is rolled back at the end: for reading only."""
    with (
        translated_errors(engine),
        _asked(engine),
        Session(engine, expire_on_commit=False) as session,
    ):
        yield session


@contextmanager
def _asked(engine: Engine) -> Iterator[None]:
    """Raises DatabaseUnavailable at once where others wait for the database already."""
    line: Line | None = engine.get_execution_options().get(_LINE)
    if line is None:
        yield
        return
    try:
        with line.asked():
            yield
    except NoAnswer as silence:
        raise DatabaseUnavailable(_shown_engine(engine), str(silence)) from silence


@contextmanager
def translated_errors(engine: Engine, *, committing: bool = False) -> Iterator[None]:
    """Name what the driver reports: a full disk, or a database that cannot be used."""
    where = _shown_engine(engine)
    try:
        yield
    except PoolTimeout as problem:
        raise DatabaseUnavailable(where, "all connections are in use") from problem
    except DBAPIError as problem:
        code = getattr(problem.orig, "sqlite_errorname", getattr(problem.orig, "sqlstate", None))
        if code in _FULL:
            raise StorageFull(where) from problem
        if not _is_unusable(problem, code) and not problem.connection_invalidated:
            raise
        kind = (
            OutcomeUnknown if committing and problem.connection_invalidated else DatabaseUnavailable
        )
        raise kind(where, " ".join(str(problem.orig).partition("\nLINE ")[0].split())) from problem


def _is_unusable(problem: DBAPIError, code: str | None) -> bool:
    """Whether it is the database that is at fault, or how we got there; not what was asked of it.
    An option in the URL that the driver does not know comes without a code and without a statement.
    """
    unknown_option = isinstance(problem, ProgrammingError) and problem.statement is None
    return (
        isinstance(problem, OperationalError)
        or code in _UNUSABLE
        or (unknown_option and code is None)
    )


def storable(value: Any) -> Any:
    """None for a number that is not finite, which JSON cannot say; everything else as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: object) -> str:
    """What is stored. Refuses NaN and infinity, which PostgreSQL and JSON clients would refuse
    later."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _shown_engine(engine: Engine) -> str:
    return shown(engine.url.render_as_string(hide_password=True))


def _shown(url: str) -> str:
    try:
        return shown(make_url(url).render_as_string(hide_password=True))
    except (ArgumentError, ValueError):
        return "given by URL"


def take_turn(session: Session | Connection) -> None:
    """Writers that call this run one after another until their transactions end.

    On SQLite the transaction itself is the turn, but a session begins it with its first statement:
    here it begins at the latest.
    """
    connection = session if isinstance(session, Connection) else session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TURN})


def default_url(data: Path) -> str:
    """The SQLite database in a data folder."""
    return f"sqlite:///{data / 'emend.db'}"
