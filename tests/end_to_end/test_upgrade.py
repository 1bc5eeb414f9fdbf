"""The database moves to a newer release while the service answers: nothing waits or is lost."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from registry import schema
from servers.postgres import create_database, drop_database
from tests.support.service import RunningService, picture, run_app, running_service
from tests.support.tiny_encoder import tiny_folder
from tests.support.waiting import wait_for

NEXT_RELEASE = '''
"""What a release to come may bring: a column and an index on the busiest table."""
import sqlalchemy as sa
from alembic import op

revision = "9000_next"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("corrections", sa.Column("reviewed_by", sa.String(100)))
    op.create_index("ix_corrections_reviewed_by", "corrections", ["reviewed_by"])


def downgrade() -> None:
    op.drop_index("ix_corrections_reviewed_by", "corrections")
    op.drop_column("corrections", "reviewed_by")
'''
FORMER = schema.MIGRATIONS
SLOWEST_SECONDS = 5.0
A_LONG_REPORT_SECONDS = 1.5


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    name = f"upgrade_{uuid.uuid4().hex}"
    yield create_database(postgres_server, name)
    drop_database(postgres_server, name)


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Code whose migrations go one further than those of the service that runs."""
    head = schema._head()
    migrations = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations)
    (migrations / "versions" / "9000_next.py").write_text(NEXT_RELEASE.format(head=head))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", migrations)
        yield


@pytest.mark.usefixtures("next_release")
def test_traffic_goes_on_while_the_tables_change(database: str, tmp_path: Path) -> None:
    encoder = tiny_folder(tmp_path / "encoder")
    with _serving_the_former_release(tmp_path, encoder, database) as service:
        stop = threading.Event()
        with ThreadPoolExecutor(2) as clients:
            traffic = [clients.submit(_ask, service.url, first, stop) for first in (0, 10_000)]
            with _a_long_report(database):
                began = time.monotonic()
                schema.upgrade(database)
                migrated = time.monotonic() - began
            stop.set()
            answers = [answer for client in traffic for answer in client.result()]
        assert migrated > A_LONG_REPORT_SECONDS / 2, "nothing stood in the migration's way"
        assert {status for status, _ in answers} == {200, 202}
        assert max(seconds for _, seconds in answers) < SLOWEST_SECONDS
        sent = sum(status == 202 for status, _ in answers)
        assert sent >= 2
        with psycopg.connect(database) as connection:
            kept = connection.execute("SELECT count(reviewed_by), count(*) FROM corrections")
            assert kept.fetchone() == (0, sent)
        # The former release runs on, but does not start any more.
        assert service.http.get("/health/ready").status_code == 200


@pytest.mark.usefixtures("next_release")
def test_a_restart_with_the_former_release_is_refused_in_a_sentence(
    database: str, tmp_path: Path
) -> None:
    schema.upgrade(database)
    done = run_app(tmp_path, EMEND_DATABASE_URL=database)
    assert done.returncode == 1
    assert "newer release" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def _serving_the_former_release(
    folder: Path, encoder: Path, database: str
) -> Iterator[RunningService]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", FORMER)
        with running_service(
            folder / "data", encoder, database_url=database, edit_wait=3600.0, edit_batch=10_000
        ) as service:
            patch.undo()
            yield service


def _ask(url: str, first: int, stop: threading.Event) -> list[tuple[int, float]]:
    """Status and seconds of every answer: a correction, a listing, a classification in turn."""
    answers: list[tuple[int, float]] = []

    def note(answer: httpx.Response) -> None:
        answers.append((answer.status_code, answer.elapsed.total_seconds()))

    with httpx.Client(base_url=url, timeout=30) as http:
        number = first
        while not stop.is_set():
            number += 1
            image = picture(number)
            note(http.post("/corrections", files={"image": image}, data={"label": "cat"}))
            note(http.get("/corrections"))
            note(http.post("/classify", files={"image": image}, data={"label": ["cat", "dog"]}))
    return answers


@contextmanager
def _a_long_report(database: str) -> Iterator[None]:
    """Somebody reads the table in one long transaction, as a report or a backup does."""
    reading, done = threading.Event(), threading.Event()

    def read() -> None:
        with psycopg.connect(database) as connection:
            connection.execute("SELECT count(*) FROM corrections")
            reading.set()
            done.wait(A_LONG_REPORT_SECONDS)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(reading.is_set, seconds=10, what="the report to begin")
        yield
    finally:
        reader.join()
        done.set()
