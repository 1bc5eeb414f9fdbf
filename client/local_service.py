"""Run a whole Emend service (supervisor, API and worker) as a child process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from client.emend_client import EmendClient

READY_SECONDS = 180.0  # a cold start imports torch twice and hashes the encoder
STOP_SECONDS = 30.0
PREFIX = "EMEND_"
# How a service computes may be inherited. Where it keeps its data, and where it is reached, may
# not: what is shown or measured here would be learnt by whatever service these name.
INHERITED = frozenset({"EMEND_DEVICE", "EMEND_PRECISION", "EMEND_THREADS", "EMEND_LAB"})
ENCODER = frozenset({"EMEND_ENCODER", "EMEND_PRETRAINED"})


class ServiceEnded(Exception):
    """The service stopped before it was ready; carries the end of its log."""

    def __init__(self, code: int | None, log: Path) -> None:
        self.code = code
        lines = log.read_text(errors="replace").splitlines()[-15:]
        super().__init__(
            f"the service ended with code {code}; the end of {log}:\n  " + "\n  ".join(lines)
        )


def environment(inherited: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """``inherited`` with ``settings`` and, of its own settings, only those that do no harm.

    The inherited encoder is kept as well, unless ``settings`` name another.
    """
    harmless = INHERITED if settings.keys() & ENCODER else INHERITED | ENCODER
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.upper().startswith(PREFIX) or name.upper() in harmless
    }
    return {**kept, **settings}


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LocalService:
    """``python -m supervisor`` on a free port over the folder ``data``; or, with ``program="app"``,
    the API alone, without a worker.

    ``settings`` are environment variables (``EMEND_...``); of this process's own only the harmless
    ones are handed on (:func:`environment`). The log goes to ``data/service.log``.
    """

    def __init__(
        self,
        data: Path,
        settings: Mapping[str, str] | None = None,
        *,
        program: str = "supervisor",
    ) -> None:
        self.log = data / "service.log"
        self.url = f"http://127.0.0.1:{free_port()}"
        own = {"EMEND_DATA": str(data), "EMEND_PORT": self.url.rsplit(":", 1)[1]}
        own |= settings or {}
        data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                # The guard ends the service when this process ends, however it ends.
                [sys.executable, "-m", "supervisor.guard", program],
                stdin=subprocess.PIPE,
                env=environment(os.environ, own),
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C then reaches this process alone, which stops the service.
                start_new_session=True,
            )

    def wait_ready(self, service: EmendClient) -> None:
        """Raises :class:`ServiceEnded` where the service does not come up."""
        try:
            service.wait_ready(seconds=READY_SECONDS, alive=lambda: self.process.poll() is None)
        except TimeoutError as late:
            raise ServiceEnded(self.process.poll(), self.log) from late

    def stop(self) -> None:
        """End the service as Ctrl-C would; kill it where that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._let_go()

    def kill(self) -> None:
        """SIGKILL the supervisor and every process it started, all at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._let_go()

    def _let_go(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()


@contextmanager
def local_service(
    data: Path, settings: Mapping[str, str] | None = None, *, program: str = "supervisor"
) -> Iterator[EmendClient]:
    """A client of a :class:`LocalService` that runs as long as the context."""
    running = LocalService(data, settings, program=program)
    try:
        with EmendClient(running.url) as service:
            running.wait_ready(service)
            yield service
    finally:
        running.stop()
