"""What an operator gets wrong ends the start with a sentence, a status, and no stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client import EmendClient
from tests.support.stack import Done, Stack, docker

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]
HEAD = "SELECT version_num FROM alembic_version"


def _refused(done: Done, *words: str) -> None:
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    for word in words:
        assert word in said


@pytest.fixture
def fresh(stack: Stack) -> Iterator[Stack]:
    """Another project from the same images, with nothing in it."""
    other = Stack(f"{stack.project}-refused", stack.settings)
    yield other
    other.end()


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("changeme", ["characters"]),
        ("postgres-password-1", ["well-known"]),
        ("", ["empty"]),
        (None, ["/run/secrets/database/password", "cannot be written"]),
    ],
)
def test_a_weak_or_missing_secret_keeps_everything_from_starting(
    fresh: Stack, tmp_path: Path, password: str | None, words: list[str]
) -> None:
    folder = tmp_path / "secret"
    folder.mkdir()
    if password is not None:
        (folder / "password").write_text(password)
    own = {"EMEND_DATABASE_SECRET": str(folder)}
    up = fresh.run("up", "-d", "--wait", check=False, **own)
    assert up.returncode != 0
    assert not fresh.containers()
    _refused(fresh.run("run", "--rm", "secrets", check=False, **own), *words)


def test_secrets_of_an_own_folder_are_used(fresh: Stack, tmp_path: Path) -> None:
    own = {}
    for name in ("database", "broker"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "password").write_text(f'{name}: a "phrase" of $my own, with \\ and %41\n')
        own[f"EMEND_{name.upper()}_SECRET"] = str(folder)
    fresh.up(**own)
    with EmendClient(fresh.url) as client:
        assert client.get("/health/ready")["live"] == 0
    assert {f"{name}-secret" for name in ("database", "broker")} & set(fresh.volumes()) == set()


@pytest.mark.parametrize(
    ("setting", "command", "words"),
    [
        ("DATABASE_URL=postgresql://emend@nowhere:5432/emend", "migrate", ["nowhere"]),
        ("DATABASE_URL=postgresql://stranger@postgres:5432/emend", "migrate", ["stranger"]),
        ("DATABASE_URL=oracle://emend@postgres/emend", "migrate", ["oracle"]),
        ("DATABASE_URL=postgresql://emend@nowhere:5432/emend", "api", ["nowhere"]),
        ("BROKER_URL=redis://nowhere:6379/0", "api", ["nowhere"]),
        ("BROKER_URL=redis://nowhere:6379/0", "worker", ["nowhere"]),
        ("ARTIFACTS=/opt/emend/artifacts", "api", ["/opt/emend/artifacts"]),
        ("ARTIFACTS=/opt/emend/artifacts", "worker", ["/opt/emend/artifacts"]),
        ("DATA=/opt/emend/data", "api", ["/opt/emend/data"]),
        ("ENCODER=no-such-encoder", "worker", ["no-such-encoder"]),
        ("LEASE=soon", "worker", ["EMEND_LEASE"]),
    ],
)
def test_a_wrong_setting_is_named(
    service: EmendClient, stack: Stack, setting: str, command: str, words: list[str]
) -> None:
    assert service.get("/health/live")
    run = ("run", "--rm", "--no-deps", "-e", f"EMEND_{setting}", command)
    _refused(stack.run(*run, check=False), *words)


def test_a_database_of_a_newer_release_is_left_alone(service: EmendClient, stack: Stack) -> None:
    assert service.get("/health/live")
    revision = _sql(stack, HEAD)
    _sql(stack, "UPDATE alembic_version SET version_num = '9999_from_the_future'")
    try:
        for command in ("migrate", "api"):
            done = stack.run("run", "--rm", "--no-deps", command, check=False)
            _refused(done, "9999_from_the_future")
    finally:
        _sql(stack, f"UPDATE alembic_version SET version_num = '{revision}'")


def _sql(stack: Stack, statement: str) -> str:
    psql = ("psql", "-U", "emend", "-d", "emend", "-At", "-c", statement)
    return docker("exec", f"{stack.project}-postgres-1", *psql)
