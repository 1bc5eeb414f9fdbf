"""A real Redis server on a free port, its data in memory only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from tests.support.ports import free_port
from tests.support.waiting import wait_for

START_SECONDS = 20
STOP_SECONDS = 20


def why_absent() -> str | None:
    """Why no server can be started here, as a sentence; None when one can."""
    if shutil.which("redis-server") is None:
        return "Redis is not installed (apt-get install redis-server)"
    return None


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """The URL of its first database, empty; the log is written to `folder`."""
    port = free_port()
    options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no"}
    command = ["redis-server", *(f for k, v in options.items() for f in (f"--{k}", str(v)))]
    log = folder / "redis.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        with Redis(port=port) as client:
            wait_for(
                lambda: server.poll() is not None or _answers(client),
                seconds=START_SECONDS,
                what="Redis to answer",
            )
        assert server.poll() is None, f"Redis did not start:\n{log.read_text()}"
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(timeout=STOP_SECONDS)


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except NoConnection:
        return False
