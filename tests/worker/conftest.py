"""A desk of one's own for each test: a data folder with a tiny encoder and an empty registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from servers.redis import running_redis, why_absent
from tests.support.database import Memory, NewDatabase, opened_memory
from tests.support.running_worker import Desk, Here, WorkerProcesses, open_desk, open_shop
from tests.support.servers import require_server


@pytest.fixture
def database() -> str:
    """The kind of database beneath `desk` and `memory`; a test or a module may take others."""
    return "sqlite"


@pytest.fixture
def database_url(database: str, new_database: NewDatabase, tmp_path: Path) -> Iterator[str]:
    """Of a migrated database without a row."""
    with new_database(database, tmp_path / "emend.db") as url:
        yield url


@pytest.fixture
def broker() -> dict[str, str]:
    """The settings of the broker; none for the embedded one."""
    return {}


@pytest.fixture
def desk(database_url: str, broker: dict[str, str], tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path, database_url=database_url, **broker) as desk:
        yield desk


@pytest.fixture
def memory(database_url: str, tmp_path: Path) -> Iterator[Memory]:
    """A registry whose version 0 is live, without an encoder."""
    with opened_memory(database_url, tmp_path / "artifacts") as memory:
        memory.ensure_base()
        yield memory


@pytest.fixture
def here(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """With a worker in this process."""
    threads = torch.get_num_threads()
    with open_shop(desk, monkeypatch) as workshop:
        yield Here(desk, workshop)
    torch.set_num_threads(threads)


@pytest.fixture
def processes(desk: Desk) -> Iterator[WorkerProcesses]:
    """With workers in processes of their own."""
    processes = WorkerProcesses(desk)
    yield processes
    processes.close()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """Of a real server, empty; skipped without one, unless EMEND_REQUIRE_REDIS is set."""
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_REDIS")
    with running_redis(tmp_path) as url:
        yield url
