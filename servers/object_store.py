"""A real S3-compatible server (moto's) on a free port; what it holds is in memory only."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from servers.errors import ServerFailed
from servers.ports import free_port
from servers.waiting import wait_until

START_SECONDS = 60
STOP_SECONDS = 20


class ObjectStoreServer:
    """It may be started and stopped again and again: the port stays, what it held is gone. The log
    is written to `folder`. It believes whatever keys it is
    shown unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        """How its clients find it."""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers. Raises ServerFailed."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        log = self.folder / "object-store.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        process = self.process
        try:
            wait_until(
                lambda: process.poll() is not None or self._answers(),
                seconds=START_SECONDS,
                what="the object store to answer",
            )
        except TimeoutError:
            self.stop()
        if process.poll() is not None:
            raise ServerFailed("the object store", log.read_text(errors="replace"))

    def make_bucket(self, name: str) -> None:
        """An empty one; nothing happens where it is there."""
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=STOP_SECONDS).close()

    def remove_bucket(self, name: str) -> None:
        """An empty one."""
        request = urllib.request.Request(f"{self.url}/{name}", method="DELETE")
        urllib.request.urlopen(request, timeout=STOP_SECONDS).close()

    def accept_keys(self, *, unknown: bool) -> None:
        """Whether keys that it has never heard of are believed, as they are at first."""
        count = b"inf" if unknown else b"0"
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", data=count, headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=STOP_SECONDS).close()

    def freeze(self) -> None:
        """It takes connections and does not answer any more, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Nothing happens where it does not run."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            self.process.wait(timeout=STOP_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            raise ServerFailed("the object store", "it does not run")
        self.process.send_signal(number)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5).close()
        except (URLError, OSError):
            return False
        return True


@contextmanager
def running_object_store(folder: Path) -> Iterator[ObjectStoreServer]:
    """Stopped at the end. Raises ServerFailed."""
    server = ObjectStoreServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
