from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from registry import schema
from registry.errors import DatabaseUnavailable, RevisionUnknown, SchemaAhead, SchemaBehind
from registry.session import open_database
from registry.tables import AdapterRecord, Prediction, Row, Vocabulary
from servers.postgres import create_database, drop_database
from tests.support.database import together


def _tables(url: str) -> set[str]:
    engine = open_database(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def _check(url: str) -> None:
    engine = open_database(url)
    try:
        schema.check(engine)
    finally:
        engine.dispose()


def _set_revision(url: str, revision: str) -> None:
    engine = open_database(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": revision})
    engine.dispose()


def test_an_empty_database_is_behind_until_it_is_upgraded(empty_url: str) -> None:
    with pytest.raises(SchemaBehind) as caught:
        _check(empty_url)
    assert caught.value.found is None
    assert "migrate" in str(caught.value)
    schema.upgrade(empty_url)
    _check(empty_url)
    schema.upgrade(empty_url)
    assert _tables(empty_url) == {*Row.metadata.tables, "alembic_version"}


@pytest.mark.parametrize(
    ("so", "said"),
    [
        ("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "permission denied for schema public$"),
        ("ALTER ROLE guest SET search_path = nowhere", "no schema has been selected"),
    ],
)
def test_a_role_that_may_not_make_tables_is_told_so(
    postgres_server: str, so: str, said: str
) -> None:
    name = f"guarded_{uuid.uuid4().hex}"
    owner = create_database(postgres_server, name)
    engine = open_database(owner)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN"))
        connection.execute(text(so))
    guest = make_url(owner).set(username="guest").render_as_string(hide_password=False)
    with pytest.raises(DatabaseUnavailable, match=said):
        schema.upgrade(guest)
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE guest"))
    engine.dispose()
    drop_database(postgres_server, name)


def test_the_migrations_make_the_tables_of_the_code(empty_url: str) -> None:
    schema.upgrade(empty_url)
    schema.differences(empty_url)


def test_every_migration_goes_both_ways(empty_url: str) -> None:
    schema.upgrade(empty_url)
    schema.downgrade(empty_url, "base")
    assert _tables(empty_url) == {"alembic_version"}
    with pytest.raises(SchemaBehind):
        _check(empty_url)
    schema.upgrade(empty_url)
    _check(empty_url)


_A_PREDICTION = (
    "INSERT INTO artifacts VALUES ('i', 1, 'image/png', '2030-01-01 12:00:00')",
    "INSERT INTO adapters (version, method, config, seed, base_name, base_digest, digest, bytes,"
    " parameters, strength, created_at) VALUES"
    " (0, 'none', '{}', 0, 'tiny', 'b', 'i', 1, 0, 1, '2030-01-01 12:00:00')",
    "INSERT INTO predictions (id, image_sha256, version, vocabulary, answer, bytes, created_at)"
    " VALUES ('p', 'i', 0, '[\"cat\", \"ñandú\"]', '[]', 1, '2030-01-01 12:00:00'),"
    " ('q', 'i', 0, '[\"cat\", \"ñandú\"]', '[]', 1, '2030-01-01 12:00:00')",
)


def test_predictions_keep_their_vocabulary_both_ways(empty_url: str) -> None:
    schema.upgrade(empty_url, "0001_tables")
    engine = open_database(empty_url)
    with engine.begin() as connection:
        for statement in _A_PREDICTION:
            connection.execute(text(statement.replace(":", "\\:")))
    schema.upgrade(empty_url)
    with Session(engine) as session:
        rows = session.scalars(select(Prediction)).all()
        assert [row.vocabulary for row in rows] == [["cat", "ñandú"]] * 2
        [vocabulary] = session.scalars(select(Vocabulary))
        assert vocabulary.bytes == len('["cat", "ñandú"]'.encode())
    schema.downgrade(empty_url, "0001_tables")
    with engine.connect() as connection:
        kept = connection.scalars(text("SELECT vocabulary FROM predictions")).all()
    assert [json.loads(one) if isinstance(one, str) else one for one in kept] == [
        ["cat", "ñandú"]
    ] * 2
    engine.dispose()


_FOUR_VERSIONS = (
    _A_PREDICTION[0],
    "INSERT INTO adapters (version, stacked_on, method, config, seed, base_name, base_digest,"
    " digest, bytes, parameters, strength, created_at) VALUES"
    + ",".join(
        f" ({version}, {beneath}, 'none', '{{}}', 0, 'tiny', 'b', 'i', 1, 0, 1,"
        " '2030-01-01 12:00:00')"
        for version, beneath in ((0, "NULL"), (1, "NULL"), (2, "1"), (3, "2"))
    ),
)


def test_versions_of_former_releases_know_how_deep_they_are_stacked(empty_url: str) -> None:
    schema.upgrade(empty_url, "0002_vocabularies")
    engine = open_database(empty_url)
    with engine.begin() as connection:
        for statement in _FOUR_VERSIONS:
            connection.execute(text(statement.replace(":", "\\:")))
    schema.upgrade(empty_url)
    with engine.connect() as connection:
        query = select(AdapterRecord.depth).order_by(AdapterRecord.version)
        assert connection.scalars(query).all() == [0, 1, 2, 3]
    engine.dispose()


_A_LABEL_AND_A_QUESTION = (
    _A_PREDICTION[0],
    "INSERT INTO label_sets VALUES ('pets', '[\"cat\"]', '[]', '2030-01-01 12:00:00')",
    "INSERT INTO control_sets VALUES ('photos', 'pets', 0.5, '2030-01-01 12:00:00')",
    "INSERT INTO control_images VALUES ('photos', 'i', 'cat')",
    "INSERT INTO edit_jobs (id, status, open, method, config, seed, base_digest, size, attempt,"
    " lost, progress, cancel_requested, created_at, starts_at) VALUES ('j', 'queued', TRUE,"
    " 'lorsu', '{}', 0, 'b', 1, 0, 0, '{}', FALSE, '2030-01-01 12:00:00', '2030-01-01 12:00:00')",
    "INSERT INTO corrections (id, image_sha256, label, edit_job_id, created_at)"
    " VALUES ('c', 'i', 'cat', 'j', '2030-01-01 12:00:00')",
)
_AND_A_QUESTION = (
    "INSERT INTO control_sets VALUES ('quiz', NULL, NULL, '2030-01-01 12:00:00')",
    "INSERT INTO control_questions VALUES ('quiz', 'i', 'q', 'What?', NULL, NULL)",
    "INSERT INTO corrections (id, image_sha256, label, predicted, before, question,"
    " question_sha256, answer, edit_job_id, created_at) VALUES ('d', 'i', 'What? fox', 'What? owl',"
    " '{\"label\": \"What? owl\"}', 'What?', 'q', 'fox', 'j', '2030-01-01 12:00:00')",
)


def test_a_former_release_finds_labels_and_control_images_but_no_questions(empty_url: str) -> None:
    schema.upgrade(empty_url, "0004_growth")
    engine = open_database(empty_url)
    with engine.begin() as connection:
        for statement in _A_LABEL_AND_A_QUESTION:
            connection.execute(text(statement.replace(":", "\\:")))
    schema.upgrade(empty_url)
    with engine.begin() as connection:
        for statement in _AND_A_QUESTION:
            connection.execute(text(statement.replace(":", "\\:")))
    schema.downgrade(empty_url, "0004_growth")
    with engine.connect() as connection:
        live = "SELECT id FROM corrections WHERE forgotten_at IS NULL"
        assert connection.scalars(text(live)).all() == ["c"]
        left = "SELECT label, predicted, before FROM corrections WHERE id = 'd'"
        assert tuple(connection.execute(text(left)).one()) == ("", None, None)
        assert connection.scalars(text("SELECT name FROM control_sets")).all() == ["photos"]
        assert connection.scalars(text("SELECT label FROM control_images")).all() == ["cat"]
    schema.upgrade(empty_url)
    schema.differences(empty_url)
    engine.dispose()


def test_a_database_of_a_newer_release_is_left_alone(empty_url: str) -> None:
    schema.upgrade(empty_url)
    _set_revision(empty_url, "9999_from_the_future")
    for step in (_check, schema.upgrade):
        with pytest.raises(SchemaAhead) as caught:
            step(empty_url)
        assert caught.value.found == "9999_from_the_future"
        assert "newer release" in str(caught.value)


def test_processes_that_start_together_upgrade_once(empty_url: str) -> None:
    assert together(4, lambda _: schema.upgrade(empty_url)) == [None] * 4
    _check(empty_url)


def test_an_upgrade_works_from_any_folder(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    url = f"sqlite:///{tmp_path / 'emend.db'}"
    script = "import sys; from registry import schema; schema.upgrade(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script, url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
    )
    _check(url)


def test_a_folder_that_cannot_hold_a_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        schema.upgrade(f"sqlite:///{tmp_path / 'missing' / 'emend.db'}")


def test_a_migration_gives_up_in_a_sentence_when_nobody_lets_it_through(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "PATIENCE_SECONDS", 0.1)
    url = create_database(postgres_server, f"busy_{uuid.uuid4().hex}")
    schema.upgrade(url)
    engine = open_database(url)
    with engine.begin() as reader:
        reader.execute(text("SELECT 1 FROM corrections"))
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            schema.downgrade(url, "base")
    schema.downgrade(url, "base")
    assert _tables(url) == {"alembic_version"}
    engine.dispose()


def test_a_revision_that_is_not_known_is_named(empty_url: str) -> None:
    schema.upgrade(empty_url)
    with pytest.raises(RevisionUnknown, match="'nowhere'"):
        schema.downgrade(empty_url, "nowhere")
    _check(empty_url)
