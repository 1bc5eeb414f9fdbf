"""A database that stops answering, for real: frozen, stopped, or held up by somebody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from registry.errors import DatabaseUnavailable, OutcomeUnknown
from registry.patience import Clock, set_clock
from registry.session import open_database, reading, take_turn, transaction
from servers.postgres import PostgresServer, create_database, started_server, why_absent
from tests.support.database import together
from tests.support.freezing import frozen
from tests.support.servers import require_server
from tests.support.waiting import wait_for

PATIENCE = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be frozen and stopped."""
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with started_server() as server:
        yield server


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[Engine]:
    """With a table of numbers, and a connection that was used before."""
    name = f"patience_{time.monotonic_ns()}"
    engine = open_database(create_database(server.url, name), patience=PATIENCE)
    with transaction(engine) as session:
        session.execute(text("CREATE TABLE numbers (number int)"))
    yield engine
    engine.dispose()


def _write(engine: Engine, number: int = 1) -> None:
    with transaction(engine) as session:
        session.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})


def _numbers(engine: Engine) -> list[int]:
    with reading(engine) as session:
        return list(session.scalars(text("SELECT number FROM numbers ORDER BY number")))


def _pid(server: PostgresServer) -> int:
    assert server.process is not None
    return server.process.pid


def _seconds_to_fail(use: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        use()
    return time.monotonic() - began


def test_a_frozen_server_is_given_up_and_used_again(server: PostgresServer, engine: Engine) -> None:
    with frozen(_pid(server)):
        assert PATIENCE / 2 <= _seconds_to_fail(lambda: _write(engine)) < 5 * PATIENCE
    _write(engine, 2)
    assert _numbers(engine) == [2]


def test_while_it_is_silent_one_asks_and_all_others_are_told_at_once(
    server: PostgresServer, engine: Engine
) -> None:
    with frozen(_pid(server)):
        _seconds_to_fail(lambda: _numbers(engine))
        took = together(20, lambda _: _seconds_to_fail(lambda: _numbers(engine)))
        quick = [each for each in took if isinstance(each, float) and each < PATIENCE / 2]
        assert len(quick) == 19
    assert _numbers(engine) == []
    assert together(20, lambda _: _numbers(engine)) == [[]] * 20


def test_a_commit_without_an_answer_leaves_open_what_became_of_it(
    server: PostgresServer, engine: Engine
) -> None:
    def write_and_freeze() -> None:
        with transaction(engine) as session:
            session.execute(text("INSERT INTO numbers VALUES (7)"))
            until_here.enter_context(frozen(_pid(server)))

    with ExitStack() as until_here, pytest.raises(OutcomeUnknown):
        write_and_freeze()
    # The server met the message when it woke up.
    wait_for(lambda: _numbers(engine) == [7], seconds=5, what="the commit to be carried out")


def test_a_statement_without_an_answer_has_changed_nothing(
    server: PostgresServer, engine: Engine
) -> None:
    def write_and_freeze() -> None:
        with transaction(engine) as session:
            session.execute(text("INSERT INTO numbers VALUES (1)"))
            until_here.enter_context(frozen(_pid(server)))
            session.execute(text("INSERT INTO numbers VALUES (2)"))

    with ExitStack() as until_here, pytest.raises(DatabaseUnavailable) as caught:
        write_and_freeze()
    assert not isinstance(caught.value, OutcomeUnknown)
    _write(engine, 3)
    assert _numbers(engine) == [3]


def test_the_callers_clock_ends_the_waiting_earlier(server: PostgresServer, engine: Engine) -> None:
    def ask() -> float:
        set_clock(Clock(0.3))
        return _seconds_to_fail(lambda: _numbers(engine))

    with frozen(_pid(server)):
        (took,) = together(1, lambda _: ask())
        assert isinstance(took, float)
        assert took < 0.9


def test_when_the_callers_time_is_over_nothing_is_sent(engine: Engine) -> None:
    def write(_: int) -> None:
        clock = Clock(0.0)
        set_clock(clock)
        with pytest.raises(DatabaseUnavailable, match="caller's time"):
            _write(engine)
        clock.stop()
        _write(engine, 2)

    assert together(1, write) == [None]
    assert _numbers(engine) == [2]


def test_who_waits_for_a_lock_is_told_by_the_server_which_is_not_called_silent(
    engine: Engine,
) -> None:
    with transaction(engine) as holder:
        take_turn(holder)
        holder.execute(text("SELECT 1"))

        def wait() -> None:
            with transaction(engine) as session:
                take_turn(session)

        assert _seconds_to_fail(wait) < PATIENCE
        assert together(10, lambda _: _numbers(engine)) == [[]] * 10


def test_a_statement_that_takes_too_long_is_ended_by_the_server(engine: Engine) -> None:
    def sleep() -> None:
        with reading(engine) as session:
            session.execute(text("SELECT pg_sleep(60)"))

    assert _seconds_to_fail(sleep) < PATIENCE


def test_a_migration_may_take_longer_than_anyone_waits(server: PostgresServer) -> None:
    url = create_database(server.url, f"patience_{time.monotonic_ns()}")
    engine = open_database(url, patience=None)
    with reading(engine) as session:
        assert session.scalar(text("SHOW statement_timeout")) == "0"
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "0"
    engine.dispose()


def test_a_stopped_server_is_named_at_once_and_used_again(
    server: PostgresServer, engine: Engine
) -> None:
    _write(engine, 1)
    server.stop()
    try:
        assert _seconds_to_fail(lambda: _numbers(engine)) < PATIENCE
        assert _seconds_to_fail(lambda: _write(engine)) < PATIENCE
    finally:
        server.start()
    assert _numbers(engine) == [1]


def test_who_is_frozen_in_a_transaction_does_not_keep_its_locks_for_ever(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.session.IDLE_TIMEOUT_S", 0.2)
    url = create_database(server.url, f"patience_{time.monotonic_ns()}")
    engine = open_database(url, patience=5.0)

    def stand_still() -> None:
        with transaction(engine) as session:
            take_turn(session)
            with transaction(engine) as other:  # waits until the server has ended the first
                take_turn(other)
            session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        stand_still()
    engine.dispose()


def test_a_locked_file_is_given_up_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'emend.db'}"
    engine, other = open_database(url, patience=PATIENCE), open_database(url)
    with transaction(other) as holder:
        take_turn(holder)

        def wait() -> None:
            with transaction(engine) as session:
                take_turn(session)

        assert _seconds_to_fail(wait) < PATIENCE
    wait()
    for each in (engine, other):
        each.dispose()


def test_a_clock_stands_still_where_that_is_asked() -> None:
    clock = Clock(10.0)
    pause = threading.Event()
    with clock.stopped():
        assert clock.left is None
        before = time.monotonic()
        pause.wait(0.05)
        paused = time.monotonic() - before
    assert clock.left is not None
    assert clock.left > 10.0 - paused
    clock.stop()
    assert clock.left is None
    clock.restart()
    assert 9.0 < clock.left <= 10.0
