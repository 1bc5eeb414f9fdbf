"""Every test of this room that takes `memory` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.object_store import ObjectStoreServer, running_object_store
from servers.postgres import create_database, drop_database
from tests.support.database import Memory, NewDatabase, opened_memory
from tests.support.places import Place, bucket_place, folder_place


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    with running_object_store(tmp_path_factory.mktemp("object-store")) as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where files are stored: a folder that does not exist yet, an empty bucket."""
    if request.param == "folder":
        yield folder_place(tmp_path / "made" / "on demand")
        return
    with bucket_place(request.getfixturevalue("object_store")) as bucket:
        yield bucket


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgres_server")
    name = f"test_{uuid.uuid4().hex}"
    yield create_database(server, name)
    drop_database(server, name)


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_memory(
    request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path: Path
) -> Iterator[Memory]:
    """Migrated and empty: not even a base encoder."""
    with (
        new_database(request.param, tmp_path / "emend.db") as url,
        opened_memory(url, tmp_path / "artifacts") as memory,
    ):
        yield memory


@pytest.fixture
def memory(bare_memory: Memory) -> Memory:
    """With a base encoder: version 0 is live."""
    bare_memory.ensure_base()
    return bare_memory
