"""A service is backed up while it answers, and another one goes on from the backup."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from servers.postgres import create_database, running_server, why_absent
from tests.support.operations import commands, run_commands
from tests.support.servers import require_server
from tests.support.service import picture, running_service
from tests.support.tiny_encoder import tiny_folder

LABELS = ("cat", "dog")
NEVER = {"edit_wait": 3600.0, "edit_batch": 10_000}


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_POSTGRES")
    with running_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """One to fill and an empty one."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'first.db'}", f"sqlite:///{tmp_path / 'second.db'}"
    server = request.getfixturevalue("postgres")
    first, second = (create_database(server, f"emend_{uuid.uuid4().hex}") for _ in range(2))
    return first, second


def test_another_service_goes_on_from_a_backup(databases: tuple[str, str], tmp_path: Path) -> None:
    encoder = tiny_folder(tmp_path / "encoder")
    first, second = databases
    with running_service(tmp_path / "first", encoder, database_url=first, **NEVER) as service:
        version = service.add_adapter(seed=3)
        assert service.http.post("/promotions", json={"version": version}).status_code == 201
        before = _accepted(service.url, range(5))
        stop = threading.Event()
        with ThreadPoolExecutor(2) as clients:
            traffic = [clients.submit(_send, service.url, start, stop) for start in (100, 10_000)]
            settings = {
                "EMEND_DATABASE_URL": first,
                "EMEND_ARTIFACTS": str(tmp_path / "first" / "artifacts"),
            }
            made = run_commands(commands("On one machine", 0), tmp_path, settings)
            stop.set()
            statuses = [status for client in traffic for status in client.result()]
        assert made.returncode == 0, made.stdout + made.stderr
        assert len(statuses) > 2
        assert set(statuses) <= {202, 204}
        answer = service.classify(picture(1), *LABELS)
    settings = {
        "EMEND_DATABASE_URL": second,
        "EMEND_ARTIFACTS": str(tmp_path / "second" / "artifacts"),
    }
    restored = run_commands(commands("On one machine", 1), tmp_path, settings)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    with running_service(tmp_path / "second", encoder, database_url=second, **NEVER) as service:
        again = service.classify(picture(1), *LABELS)
        for field in ("adapter", "encoder_digest"):
            assert again[field] == answer[field]
        assert again["adapter"] == version
        assert [one["labels"] for one in again["predictions"]] == [
            one["labels"] for one in answer["predictions"]
        ]
        for correction in before:
            assert service.http.get(f"/corrections/{correction}/image").status_code == 200
        sent = service.correct(picture(1), "cat")["corrections"][0]
        assert sent["status"] == "duplicate"
        assert service.correct(picture(77), "cat")["corrections"][0]["status"] == "accepted"


def _accepted(url: str, seeds: range) -> list[str]:
    ids = []
    with httpx.Client(base_url=url, timeout=30) as http:
        for seed in seeds:
            sent = http.post("/corrections", files={"image": picture(seed)}, data={"label": "cat"})
            ids.append(sent.json()["corrections"][0]["id"])
    return ids


def _send(url: str, first: int, stop: threading.Event) -> list[int]:
    """The status of every answer: a correction is sent, and every other one forgotten."""
    statuses = []
    number = first
    with httpx.Client(base_url=url, timeout=30) as http:
        while not stop.is_set():
            number += 1
            sent = http.post(
                "/corrections", files={"image": picture(number)}, data={"label": "cat"}
            )
            statuses.append(sent.status_code)
            if number % 2 and sent.status_code == 202:
                forgotten = http.delete(f"/corrections/{sent.json()['corrections'][0]['id']}")
                statuses.append(forgotten.status_code)
    return statuses
