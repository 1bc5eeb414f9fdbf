"""A history into an empty PostgreSQL database, by COPY; foreign keys check every row."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import psycopg
from sqlalchemy import Engine

from benchmark.growth.history import LABELS, History
from benchmark.growth.rows import CONTROL_SETS, LABEL_SET, tables
from registry import schema
from registry.adapters import ensure_base
from registry.artifacts import ArtifactStore
from registry.control_sets import put_control_set
from registry.label_sets import put_label_set
from registry.lineage import follow_live
from registry.promotions import live_promotion
from registry.session import open_database, transaction

TIMED = {"0004_growth": "0003_snapshots"}
"""Revision → the one before it."""


class DatabaseNotEmpty(Exception):
    """The database to seed holds tables already."""


def seed_database(
    url: str, history: History, store: ArtifactStore, *, say: Callable[[str], None]
) -> Engine:
    """Migrate and fill an empty database; its statistics are up to date. Files are not made, but
    for the base's.

    Raises DatabaseNotEmpty, registry.errors.DatabaseUnavailable.
    """
    plain = url.replace("postgresql+psycopg:", "postgresql:")
    with psycopg.connect(plain) as connection:
        if connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchone():
            raise DatabaseNotEmpty("the database to seed holds tables already: name an empty one")
    schema.upgrade(url)
    engine = open_database(url)
    _settle_in(engine, store, history)
    began = time.monotonic()
    with psycopg.connect(plain) as connection:
        for table, columns, rows in tables(history):
            with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        last = history.jobs
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('edit_jobs', 'number'), %s)", [last]
        )
    with transaction(engine) as session:  # as the first request for it would
        follow_live(session, live_promotion(session).version)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    say(f"{history.corrections:,} corrections seeded in {time.monotonic() - began:.0f} s")
    return engine


def size_of(url: str) -> int:
    """Bytes of a database on the server's disk."""
    with psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:")) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


def seconds_to_migrate(url: str) -> dict[str, float]:
    """Seconds that each migration of `TIMED` takes in a filled database, both ways."""
    took = {}
    for revision, earlier in TIMED.items():
        began = time.monotonic()
        schema.downgrade(url, earlier)
        back = time.monotonic()
        schema.upgrade(url)
        took[revision] = round(time.monotonic() - back, 2)
        took[f"{revision}, back"] = round(back - began, 2)
    return took


def _settle_in(engine: Engine, store: ArtifactStore, history: History) -> None:
    with transaction(engine) as session:
        now = history.at(0) - timedelta(days=1)
        ensure_base(
            session,
            store,
            name="long-life",
            pretrained=None,
            base_digest=history.base_digest,
            empty_adapter=b"an empty adapter",
            now=now,
        )
        put_label_set(session, LABEL_SET, [f"label {n}" for n in range(LABELS)], now=now)
        for number in range(CONTROL_SETS):
            put_control_set(session, f"control-{number}", label_set=LABEL_SET, now=now)
