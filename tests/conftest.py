"""Databases of every kind that one may use, on real servers that are started once."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry import schema
from servers.postgres import create_database, drop_database, running_server, why_absent
from tests.support.database import NewDatabase
from tests.support.servers import require_server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "emend.db"
    schema.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Its URL; skipped without one, unless EMEND_REQUIRE_POSTGRES is set."""
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with running_server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> str:
    schema.upgrade(create_database(postgres_server, "migrated"))
    return "migrated"


@pytest.fixture
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """`with new_database(kind, file) as url`: migrated and empty. The file is for SQLite."""

    @contextmanager
    def make(kind: str, file: Path) -> Iterator[str]:
        if kind == "sqlite":
            shutil.copyfile(request.getfixturevalue("migrated_file"), file)
            yield f"sqlite:///{file}"
            return
        template = request.getfixturevalue("migrated_template")
        server = request.getfixturevalue("postgres_server")
        name = f"test_{uuid.uuid4().hex}"
        yield create_database(server, name, template=template)
        drop_database(server, name)

    return make
