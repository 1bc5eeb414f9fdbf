"""A real PostgreSQL server on a free port, its data in a folder of its own.

The server refuses to run as root, so root starts it as the user `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from servers.errors import ServerFailed
from servers.ports import lasting_port
from servers.waiting import wait_until

START_SECONDS = 30
STOP_SECONDS = 20
USER = "emend"
QUICK = {"fsync": "off", "max_connections": "60"}
"""For data that nobody will miss after a power cut."""


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None when the server is not installed."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


def why_absent() -> str | None:
    """Why no server can be started here, as a sentence; None when one can."""
    if find_binaries() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL cannot run as root, and there is no user named postgres"
    return None


class PostgresServer:
    """`settings` are server parameters. It may be started and stopped again and again: port and
    data stay. The folder must not exist, and every folder above it must be open to the user
    `postgres` where root starts it."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] = QUICK) -> None:
        """Makes an empty database cluster. Raises ServerFailed."""
        binaries = find_binaries()
        if binaries is None:
            raise ServerFailed("PostgreSQL", str(why_absent()))
        self._binaries = binaries
        self.folder = folder
        self.port = lasting_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}"
        """Without a database name."""
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = [f"--{name}={value}" for name, value in settings.items()]
        account = _account() if os.geteuid() == 0 else None
        self._owner = account.pw_name if account is not None else None
        folder.mkdir()
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        command = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", USER, "-A", "trust"]
        made = subprocess.run(
            [*command, "-E", "UTF8", "--no-sync"],
            user=self._owner,
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            raise ServerFailed("PostgreSQL", made.stderr)

    def start(self) -> None:
        """Returns once it answers. Raises ServerFailed."""
        place = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        log = self.folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    str(self._binaries / "postgres"),
                    *place,
                    "--listen_addresses=127.0.0.1",
                    *self._settings,
                ],
                user=self._owner,
                cwd=self.folder,
                stdout=output,
                stderr=output,
            )
        process = self.process
        try:
            wait_until(
                lambda: process.poll() is not None or self._answers(),
                seconds=START_SECONDS,
                what="PostgreSQL to answer",
            )
        except TimeoutError:
            self.stop()
        if process.poll() is not None:
            raise ServerFailed("PostgreSQL", log.read_text(errors="replace"))

    def stop(self) -> None:
        """Ends open sessions and stops; nothing happens where it does not run."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=STOP_SECONDS)

    def _answers(self) -> bool:
        try:
            psycopg.connect(f"{self.url}/postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def started_server(settings: Mapping[str, str] = QUICK) -> Iterator[PostgresServer]:
    """One that answers, to be stopped and started at will; its data goes at the end.

    Raises ServerFailed.
    """
    above = Path(tempfile.mkdtemp(prefix="emend-postgres-"))
    above.chmod(0o755)
    try:
        server = PostgresServer(above / "server", settings=settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(above)


@contextmanager
def running_server(settings: Mapping[str, str] = QUICK) -> Iterator[str]:
    """Its URL, without a database name: `postgresql://emend@127.0.0.1:port`; data goes at the end.

    Raises ServerFailed.
    """
    with started_server(settings) as server:
        yield server.url


def create_database(server: str, name: str, *, template: str = "template1") -> str:
    """A new database, empty or a copy of another; returns its URL."""
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return f"{server}/{name}"


def drop_database(server: str, name: str) -> None:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None
