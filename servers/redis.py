"""A real Redis server on a free port, its data in memory only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from servers.errors import ServerFailed
from servers.ports import lasting_port
from servers.waiting import wait_until

START_SECONDS = 20
STOP_SECONDS = 20


def why_absent() -> str | None:
    """Why no server can be started here, as a sentence; None when one can."""
    if shutil.which("redis-server") is None:
        return "Redis is not installed (apt-get install redis-server)"
    return None


class RedisServer:
    """It may be started and stopped again and again: the port stays, what it held is gone. The log
    is written to `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        password: str | None = None,
        tls: Mapping[str, object] | None = None,
    ) -> None:
        """`tls` are options of an encrypted server: its certificate and key."""
        self.folder = folder
        self._tls = dict(tls or {})
        self.port = lasting_port()
        self.password = password
        login = f":{password}@" if password else ""
        self.url = f"redis{'s' if tls else ''}://{login}127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers. Raises ServerFailed."""
        options: dict[str, object] = {
            "bind": "127.0.0.1",
            "dir": self.folder,
            "save": "",
            "appendonly": "no",
        }
        if self.password:
            options["requirepass"] = self.password
        options |= {"port": self.port}
        if self._tls:
            options |= {"port": 0, "tls-port": self.port, "tls-auth-clients": "no", **self._tls}
        flags = (flag for name, value in options.items() for flag in (f"--{name}", str(value)))
        log = self.folder / "redis.log"
        with log.open("ab") as output:
            process = subprocess.Popen(["redis-server", *flags], stdout=output, stderr=output)
        self.process = process
        unchecked = "?ssl_cert_reqs=none" if self._tls else ""
        with Redis.from_url(self.url + unchecked) as client:
            try:
                wait_until(
                    lambda: process.poll() is not None or _answers(client),
                    seconds=START_SECONDS,
                    what="Redis to answer",
                )
            except TimeoutError:
                self.stop()
        if process.poll() is not None:
            raise ServerFailed("Redis", log.read_text(errors="replace"))

    def stop(self) -> None:
        """Nothing happens where it does not run."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=STOP_SECONDS)


@contextmanager
def running_redis(
    folder: Path, *, password: str | None = None, tls: Mapping[str, object] | None = None
) -> Iterator[str]:
    """The URL of its first database, empty; the log is written to `folder`. Raises ServerFailed."""
    server = RedisServer(folder, password=password, tls=tls)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False
