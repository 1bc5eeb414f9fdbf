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


class ServiceEnded(Exception):
    """The service stopped before it was ready; carries the end of its log."""

    def __init__(self, code: int | None, log: Path) -> None:
        self.code = code
        lines = log.read_text(errors="replace").splitlines()[-15:]
        super().__init__(
            f"the service ended with code {code}; the end of {log}:\n  " + "\n  ".join(lines)
        )


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def local_service(data: Path, settings: Mapping[str, str] | None = None) -> Iterator[EmendClient]:
    """Start ``python -m supervisor`` on a free port over the folder ``data``, yield a client, stop.

    ``settings`` are environment variables (``EMEND_...``) on top of this process's own. The log
    goes to ``data/service.log``. Raises :class:`ServiceEnded` where the service does not come up.
    """
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    own = {"EMEND_DATA": str(data), "EMEND_PORT": str(port)}
    environment = {**os.environ, **own, **(settings or {})}
    log = data / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which stops the service
        )
    try:
        with EmendClient(f"http://127.0.0.1:{port}") as service:
            try:
                service.wait_ready(seconds=READY_SECONDS, alive=lambda: process.poll() is None)
            except TimeoutError as late:
                raise ServiceEnded(process.poll(), log) from late
            yield service
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the service as Ctrl-C would; kill its whole process group where that takes too long."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
