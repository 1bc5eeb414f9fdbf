"""Every test of this room that takes `memory` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import schema
from servers.object_store import ObjectStoreServer, running_object_store
from servers.postgres import create_database, drop_database, running_server, why_absent
from tests.support.database import Memory, opened_memory
from tests.support.places import Place, bucket_place, folder_place
from tests.support.servers import require_server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "emend.db"
    schema.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with running_server() as url:
        yield url


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


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> str:
    schema.upgrade(create_database(postgres_server, "migrated"))
    return "migrated"


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
def bare_memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Memory]:
    """Migrated and empty: not even a base encoder."""
    folder = tmp_path / "artifacts"
    if request.param == "sqlite":
        file = tmp_path / "emend.db"
        shutil.copyfile(request.getfixturevalue("migrated_file"), file)
        with opened_memory(f"sqlite:///{file}", folder) as memory:
            yield memory
        return
    template = request.getfixturevalue("migrated_template")
    server = request.getfixturevalue("postgres_server")
    name = f"test_{uuid.uuid4().hex}"
    with opened_memory(create_database(server, name, template=template), folder) as memory:
        yield memory
    drop_database(server, name)


@pytest.fixture
def memory(bare_memory: Memory) -> Memory:
    """With a base encoder: version 0 is live."""
    bare_memory.ensure_base()
    return bare_memory
