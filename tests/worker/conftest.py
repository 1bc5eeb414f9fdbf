"""A desk of one's own for each test: a data folder with a tiny encoder and an empty registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from servers.redis import running_redis, why_absent
from tests.support.running_worker import Desk, Here, WorkerProcesses, open_desk, open_shop
from tests.support.servers import require_server


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path) as desk:
        yield desk


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
