"""A new database password, by the runbook's steps: the service that runs is not disturbed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from registry.secrets import ensure_secret, read_secret
from servers.ports import free_port
from servers.postgres import PostgresServer, why_absent
from tests.support.servers import require_server
from tests.support.service import READY_SECONDS, ROOT, environment, picture, run_app
from tests.support.tiny_encoder import tiny_folder
from tests.support.waiting import wait_for

ONLY_WITH_A_PASSWORD = "host all service 127.0.0.1/32 scram-sha-256\n"
STOP_SECONDS = 20


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Its role `service` owns the database `emend` and must say its password."""
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with tempfile.TemporaryDirectory(prefix="emend-postgres-") as above:
        Path(above).chmod(0o755)
        server = PostgresServer(Path(above) / "server")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text(ONLY_WITH_A_PASSWORD + rules.read_text())
        server.start()
        try:
            _tell(server, "CREATE ROLE service LOGIN")
            _tell(server, "CREATE DATABASE emend OWNER service")
            yield server
        finally:
            server.stop()


def test_a_rotation_leaves_the_running_service_alone_and_admits_the_next_one(
    server: PostgresServer, tmp_path: Path
) -> None:
    password = tmp_path / "secret" / "password"
    settings = {
        "EMEND_DATABASE_URL": f"postgresql://service@127.0.0.1:{server.port}/emend",
        "EMEND_DATABASE_PASSWORD_FILE": str(password),
        "EMEND_ENCODER": str(tiny_folder(tmp_path / "encoder")),
    }
    ensure_secret(password)
    _set_password(server, password)
    assert run_app(tmp_path / "data", "migrate", **settings).returncode == 0

    with _serving(tmp_path / "data", settings) as http:
        assert _correct(http, 1) == 202
        former = read_secret(password)
        password.unlink()
        ensure_secret(password)
        _set_password(server, password)
        assert read_secret(password) != former
        assert _correct(http, 2) == 202
    with _serving(tmp_path / "data", settings) as http:
        assert _correct(http, 3) == 202
        assert len(http.get("/corrections").json()["corrections"]) == 3

    password.unlink()
    password.write_text(former)
    refused = run_app(tmp_path / "data", **settings)
    assert refused.returncode == 1
    assert "password authentication failed" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert former not in refused.stderr


@contextmanager
def _serving(folder: Path, settings: dict[str, str]) -> Iterator[httpx.Client]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env=environment(folder, {**settings, "EMEND_PORT": str(port)}),
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            wait_for(
                lambda: process.poll() is not None or _ready(http),
                seconds=READY_SECONDS,
                what="the service to be ready",
            )
            assert process.poll() is None
            yield http
    finally:
        process.terminate()
        process.wait(timeout=STOP_SECONDS)


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _correct(http: httpx.Client, seed: int) -> int:
    answer = http.post("/corrections", files={"image": picture(seed)}, data={"label": "cat"})
    return answer.status_code


def _set_password(server: PostgresServer, file: Path) -> None:
    _tell(server, f"ALTER ROLE service PASSWORD '{read_secret(file)}'")


def _tell(server: PostgresServer, statement: str) -> None:
    with psycopg.connect(f"{server.url}/postgres", autocommit=True) as connection:
        connection.execute(statement)
