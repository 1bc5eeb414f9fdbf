"""Databases of every kind that one may use, on real servers that are started once; a tiny VLM."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry import schema
from servers.postgres import create_database, drop_database, running_server, why_absent
from tests.support.database import NewDatabase
from tests.support.servers import require_server

if TYPE_CHECKING:
    from encoder.vlm.model import VisionLanguageModel


@pytest.fixture(scope="session")
def tiny_vlm_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA folder over `tiny_encoder()`."""
    # Here and below: most sessions need no model, and torch takes seconds to import.
    from tests.support.tiny_encoder import tiny_encoder
    from tests.support.tiny_vlm import tiny_vlm_folder

    return tiny_vlm_folder(tmp_path_factory.mktemp("vlm") / "tiny-vlm", tiny_encoder())


@pytest.fixture(scope="session")
def tiny_vlm(tiny_vlm_path: Path) -> VisionLanguageModel:
    """That model, for `tiny_encoder()` and versions merged from it."""
    from encoder.vlm.load import load_vlm
    from tests.support.tiny_encoder import tiny_encoder

    return load_vlm(str(tiny_vlm_path), tiny_encoder())


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
