"""The deployed stack as processes of this machine, on free loopback ports.

Real PostgreSQL and Redis, several APIs and workers, one folder of artifacts for all of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chaos.disk import Disk, open_disk
from chaos.keeper import Keeper
from chaos.services import Module, Service
from chaos.stack import LEASE_SECONDS, POSTGRES, REDIS, Death, Window
from chaos.tiny_encoder import tiny_folder
from client.local_service import environment
from registry import schema
from servers.ports import lasting_port
from servers.postgres import PostgresServer, create_database
from servers.redis import RedisServer
from servers.waiting import wait_until

DATABASE = "emend"
REMOVE_SECONDS = 20
SETTINGS = {
    "EMEND_EDIT_BATCH": "8",
    "EMEND_EDIT_WAIT": "1.5",
    "EMEND_LEASE": str(LEASE_SECONDS),
    "EMEND_HEARTBEAT": "0.5",
    "EMEND_MAX_ATTEMPTS": "4",
    # A two-block encoder of random weights holds nothing that an edit could spare.
    "EMEND_FLIP_BUDGET": "100",
    "EMEND_FORGETTING_BUDGET": "100",
    "EMEND_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",
}
WORKER_IS_READY = " edits "
"""What it says in its log before it takes jobs."""
DURABLE = {"max_connections": "200"}
"""PostgreSQL as it is deployed: it flushes what it commits."""


class LocalStack:
    """Opened by `local_stack`."""

    def __init__(
        self, folder: Path, *, apis: int, workers: int, settings: Mapping[str, str]
    ) -> None:
        """Nothing runs yet. Raises ServerFailed."""
        self.folder = folder
        self._postgres = PostgresServer(folder / "postgres", settings=DURABLE)
        self._redis = RedisServer(folder)
        self.database_url = f"{self._postgres.url}/{DATABASE}"
        self.broker_url = self._redis.url
        self.apis = tuple(f"api-{number + 1}" for number in range(apis))
        self.workers = tuple(f"worker-{number + 1}" for number in range(workers))
        self._urls = {api: f"http://127.0.0.1:{lasting_port()}" for api in self.apis}
        artifacts = folder / "artifacts"
        artifacts.mkdir()
        self.artifacts = str(artifacts)
        self._own_settings = dict(settings)
        encoder = tiny_folder(folder / "encoder")
        self._modules = {
            name: self._module(name, environment(os.environ, self._settings(name, encoder)))
            for name in (*self.apis, *self.workers)
        }
        services: Mapping[str, Service] = {
            POSTGRES: _Server(self._postgres),
            REDIS: _Server(self._redis),
            **self._modules,
        }
        self._keeper = Keeper(services)
        # The last thing: who is stopped before has nothing to take down.
        self._disk: Disk = open_disk(artifacts, self._writers)

    @property
    def deaths(self) -> list[Death]:
        return self._keeper.deaths

    @property
    def full_disk(self) -> str:
        """How a full disk is made here."""
        return self._disk.how

    def open(self) -> None:
        """Servers, schema, then everything else. Raises ServerFailed."""
        for server in (POSTGRES, REDIS):
            self._keeper.start(server)
        create_database(self._postgres.url, DATABASE)
        schema.upgrade(self.database_url)
        for module in self._modules:
            self._keeper.start(module)

    def close(self) -> None:
        try:
            self._keeper.close()
        finally:
            self._disk.close()

    def url(self, api: str) -> str:
        return self._urls[api]

    def kill(self, service: str) -> None:
        self._keeper.kill(service)

    def pause(self, service: str) -> None:
        self._keeper.pause(service)

    def resume(self, service: str) -> None:
        self._keeper.resume(service)

    def stop(self, service: str) -> None:
        self._keeper.stop(service)

    def start(self, service: str) -> None:
        self._keeper.start(service)

    def worker_called(self, name: str) -> str | None:
        """A worker calls itself HOST:PID:RANDOM."""
        for worker in self.workers:
            process = self._modules[worker].process
            if process is not None and name.split(":")[1:2] == [str(process.pid)]:
                return worker
        return None

    def windows(self) -> list[Window]:
        return self._keeper.windows()

    def fill_disk(self) -> None:
        self._disk.fill()

    def free_disk(self) -> None:
        self._disk.free()

    def log(self, service: str) -> str:
        """What a module has said so far."""
        path = self._log(service)
        return path.read_text(errors="replace") if path.exists() else ""

    def _writers(self) -> list[int]:
        processes = [module.process for module in self._modules.values()]
        return [one.pid for one in processes if one is not None and one.poll() is None]

    def _module(self, name: str, settings: Mapping[str, str]) -> Module:
        if name in self._urls:
            return Module("app", self._log(name), settings, url=self._urls[name])
        return Module("worker", self._log(name), settings, ready=WORKER_IS_READY)

    def _settings(self, name: str, encoder: Path) -> dict[str, str]:
        own = {
            "EMEND_DATA": str(self.folder / name),
            "EMEND_ENCODER": str(encoder),
            "EMEND_DATABASE_URL": self.database_url,
            "EMEND_BROKER_URL": self.broker_url,
            "EMEND_ARTIFACTS": self.artifacts,
        }
        if name in self._urls:
            own["EMEND_PORT"] = self._urls[name].rpartition(":")[2]
        return {**SETTINGS, **own, **self._own_settings}

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


class _Server:
    """A server that answers as soon as its start has returned."""

    def __init__(self, server: PostgresServer | RedisServer) -> None:
        self._server = server
        self.start = server.start
        self.stop = server.stop

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._server.process

    def answers(self) -> bool:
        return self._server.process is not None


@contextmanager
def local_stack(
    *,
    apis: int = 2,
    workers: int = 2,
    settings: Mapping[str, str] | None = None,
    keep: Path | None = None,
) -> Iterator[LocalStack]:
    """Running, though not ready yet; everything is stopped and removed at the end. `settings` are
    EMEND_ variables of APIs and workers, instead of a storm's own; `keep` is a folder for the logs.
    Raises ServerFailed."""
    folder = Path(tempfile.mkdtemp(prefix="emend-storm-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    try:
        stack = LocalStack(folder, apis=apis, workers=workers, settings=settings or {})
        try:
            stack.open()
            yield stack
        finally:
            stack.close()
    finally:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for log in (*folder.glob("*.log"), folder / "postgres" / "log"):
                shutil.copy(log, keep / log.name)
        wait_until(lambda: _removed(folder), seconds=REMOVE_SECONDS, what="the folder to be gone")


def _removed(folder: Path) -> bool:
    """What a server that was ended half-way still does in there is over in a moment."""
    try:
        shutil.rmtree(folder)
    except OSError:
        return not folder.exists()
    return True
