from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, text

from registry.errors import DatabaseUnavailable, LabelSetMissing
from registry.label_sets import get_label_set, put_label_set
from registry.session import close_database, open_database, reading, take_turn, transaction
from registry.tables import LabelSet
from servers.postgres import create_database, drop_database
from tests.support.database import NOON, Memory, together


def test_a_block_that_raises_changes_nothing(memory: Memory) -> None:
    def fail() -> None:
        with memory.writing() as session:
            put_label_set(session, "pets", ["cat"], now=NOON)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with memory.reading() as session, pytest.raises(LabelSetMissing):
        get_label_set(session, "pets")


def test_rows_can_be_read_after_their_transaction(memory: Memory) -> None:
    with memory.writing() as session:
        row = put_label_set(session, "pets", ["cat"], now=NOON)
    assert (row.name, row.labels, row.updated_at) == ("pets", ["cat"], NOON)


def test_what_is_written_while_reading_is_dropped(memory: Memory) -> None:
    with memory.reading() as session:
        put_label_set(session, "pets", ["cat"], now=NOON)
    with memory.reading() as session, pytest.raises(LabelSetMissing):
        get_label_set(session, "pets")


def test_writers_take_turns(memory: Memory) -> None:
    """Reading, thinking and writing in one turn: no increment is lost."""
    with memory.writing() as session:
        put_label_set(session, "count", ["0"], now=NOON)

    def increment(_: int) -> None:
        for _ in range(5):
            with memory.writing() as session:
                take_turn(session)
                row = get_label_set(session, "count")
                row.labels = [str(int(row.labels[0]) + 1)]

    assert together(4, increment) == [None] * 4
    with memory.reading() as session:
        assert get_label_set(session, "count").labels == ["20"]


def test_readers_do_not_wait_for_a_writer(memory: Memory) -> None:
    with memory.writing() as session:
        take_turn(session)
        put_label_set(session, "pets", ["cat"], now=NOON)
        seen: list[LabelSet | None] = []

        def look() -> None:
            with memory.reading() as other:
                seen.append(other.get(LabelSet, "pets"))

        reader = threading.Thread(target=look)
        reader.start()
        reader.join(timeout=5)
        assert seen == [None]


def test_a_naive_time_is_refused(memory: Memory) -> None:
    with pytest.raises(Exception, match="no time zone"), memory.writing() as session:
        put_label_set(session, "pets", ["cat"], now=NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://user:secret@host/db", "only sqlite"),
        ("sqlite://", "a file is needed"),
        ("not a url", "parse"),
        ("nosuchthing://host", "nosuchthing"),
        ("postgresql://user:secret", "port"),
        ("postgresql://user:secret@[::1/db", "port"),
        ("postgresql://user:my@secret@host/db", "%40"),
        ("postgresql+nosuch://user:secret@host/db?password=secret", "nosuch"),
    ],
)
def test_a_database_url_that_cannot_be_used_is_named(url: str, said: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=said) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    engine = open_database("postgresql://user:secret@127.0.0.1:1/emend")
    with pytest.raises(DatabaseUnavailable) as caught, reading(engine) as session:
        session.execute(text("SELECT 1"))
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_url_with_an_option_that_is_unknown_is_named_without_its_query() -> None:
    engine = open_database("postgresql://user:secret@127.0.0.1:1/db?password=secret&ssl_mode=x")
    with pytest.raises(DatabaseUnavailable, match="ssl_mode") as caught, reading(engine) as session:
        session.execute(text("SELECT 1"))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "emend.db"
    file.write_bytes(b"not a database " * 100)
    engine = open_database(f"sqlite:///{file}")
    with pytest.raises(DatabaseUnavailable, match="not a database"), reading(engine) as session:
        session.execute(text("SELECT 1"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'missing' / 'emend.db'}")
    with (
        pytest.raises(DatabaseUnavailable, match=r"missing/emend\.db"),
        transaction(engine) as session,
    ):
        take_turn(session)


def test_a_database_locked_for_too_long_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.session.LOCK_TIMEOUT_S", 0)
    file = tmp_path / "emend.db"
    engine = open_database(f"sqlite:///{file}")
    with transaction(engine) as session:
        take_turn(session)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"), transaction(engine) as session:
        take_turn(session)
    other.close()
    engine.dispose()


def test_a_new_file_that_another_process_prepares_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses the switch to its write-ahead log at once, not after the busy timeout."""
    file = tmp_path / "emend.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.3, other.rollback)
    ends.start()
    with open_database(f"sqlite:///{file}").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
    ends.join()
    other.close()


def test_a_connection_that_is_still_used_is_closed_when_it_comes_back(memory: Memory) -> None:
    engine, closed = open_database(memory.url), list[object]()
    event.listen(engine, "close", lambda connection, _: closed.append(connection))
    with reading(engine) as session:
        session.execute(text("SELECT 1"))
        with reading(engine) as other:
            other.execute(text("SELECT 1"))
        assert closed == []
        close_database(engine)
        idle = closed[:]
        assert session.execute(text("SELECT 2")).scalar_one() == 2
        used = session.connection().connection.driver_connection
    assert len(idle) == 1
    assert closed == [*idle, used]


def test_after_a_failover_the_server_that_only_reads_is_left(postgres_server: str) -> None:
    """A new default is for new connections only: whoever can write again has connected anew."""
    engine = open_database(create_database(postgres_server, "failover"))

    def write() -> None:
        with transaction(engine) as session:
            session.execute(text("CREATE TABLE written (number int)"))

    def only_read(value: str) -> None:
        with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
            connection.execute(
                f"ALTER DATABASE failover SET default_transaction_read_only = {value}"
            )

    only_read("on")
    with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
        write()
    only_read("off")
    write()
    engine.dispose()
    drop_database(postgres_server, "failover")
