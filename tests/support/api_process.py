"""The API in processes of its own, on one PostgreSQL database, and versions for it to serve."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from encoder.clip import load_encoder
from registry.adapters import get_adapter
from registry.artifacts import ArtifactStore
from registry.session import open_database, reading
from servers.ports import free_port
from tests.support.service import READY_SECONDS, ROOT, environment, noisy_deltas, store_version
from tests.support.waiting import wait_for

STOP_SECONDS = 20


@dataclass
class ApiProcess:
    """``settings`` are EMEND_ variables; ``process`` is None while it does not run."""

    folder: Path
    settings: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder.mkdir(parents=True)

    def start(self) -> None:
        """Returns at once; the port opens later."""
        own = {"EMEND_PORT": self.url.rpartition(":")[2], "EMEND_THREADS": "1", **self.settings}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "app"],
                cwd=ROOT,
                env=environment(self.folder, own),
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self) -> None:
        wait_for(
            lambda: self.status() == 200, seconds=READY_SECONDS, what=f"{self.url} to be ready"
        )

    def status(self) -> int:
        """Of `/health/ready`; 0 where nobody listens."""
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=30).status_code
        except httpx.TransportError:
            assert self.process is None or self.process.poll() is None, self.log()
            return 0

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        """SIGTERM, and nothing where it does not run."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=STOP_SECONDS)
            self.process = None


@dataclass(frozen=True)
class Deployment:
    """What all replicas share: a migrated database, a folder of artifacts, an encoder."""

    folder: Path
    database: str
    encoder: Path

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @contextmanager
    def replica(self, name: str, **settings: str) -> Iterator[ApiProcess]:
        """A running one; `settings` are EMEND_ variables without the prefix."""
        values = {
            "DATABASE_URL": self.database,
            "ARTIFACTS": str(self.artifacts),
            "ENCODER": str(self.encoder),
            **settings,
        }
        one = ApiProcess(self.folder / name, {f"EMEND_{k}": v for k, v in values.items()})
        one.start()
        try:
            yield one
        finally:
            one.stop()

    def add_version(self, *, seed: int) -> tuple[int, str]:
        """A version that really changes the answers, stored and not promoted, and its digest."""
        adapter = noisy_deltas(load_encoder(str(self.encoder)), seed=seed)
        engine = open_database(self.database)
        try:
            version = store_version(engine, ArtifactStore(self.artifacts), adapter)
            with reading(engine) as session:
                return version, get_adapter(session, version).digest
        finally:
            engine.dispose()
