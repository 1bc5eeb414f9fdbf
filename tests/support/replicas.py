"""Several API processes over one data folder, each with an address of its own and the same port."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from registry import schema
from registry.session import default_url
from servers.ports import free_port
from tests.support.service import READY_SECONDS, ROOT, environment
from tests.support.waiting import wait_for

STOP_SECONDS = 20


@dataclass
class Replicas:
    """All are at ``port``, each at another loopback address; ``settings`` are EMEND_ variables."""

    folder: Path
    encoder: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        schema.upgrade(default_url(self.folder))

    def url(self, address: str) -> str:
        return f"http://{address}:{self.port}"

    def start(self, address: str) -> None:
        """Returns at once; `wait_until_ready` waits."""
        own = {"EMEND_HOST": address, "EMEND_PORT": str(self.port), "EMEND_THREADS": "1"}
        with self.log(address).open("ab") as log:
            self._running[address] = subprocess.Popen(
                [sys.executable, "-m", "app"],
                cwd=ROOT,
                env=environment(
                    self.folder, {**own, "EMEND_ENCODER": str(self.encoder), **self.settings}
                ),
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self, address: str) -> None:
        process = self._running[address]
        wait_for(
            lambda: process.poll() is not None or self._is_ready(address),
            seconds=READY_SECONDS,
            what=f"the replica at {address}",
        )
        assert process.poll() is None, self.log(address).read_text()

    def process_id(self, address: str) -> int:
        return self._running[address].pid

    def log(self, address: str) -> Path:
        return self.folder / f"{address}.log"

    def kill(self, address: str) -> None:
        """As power does: it closes nothing."""
        process = self._running.pop(address)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=STOP_SECONDS)

    def close(self) -> None:
        for address in list(self._running):
            self.kill(address)

    def _is_ready(self, address: str) -> bool:
        try:
            return httpx.get(f"{self.url(address)}/health/ready").status_code == 200
        except httpx.TransportError:
            return False
