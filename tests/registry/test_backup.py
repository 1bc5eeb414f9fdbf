"""Backups by the commands of `docs/operations.md`, made while others write and forget; each is
restored, and must verify."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from registry.__main__ import main
from registry.artifacts import release_artifacts, unnamed_artifacts
from registry.corrections import forget, list_corrections
from registry.database_dump import dump_database
from registry.errors import DumpFailed, StoreHeld
from registry.holds import UPLOAD, begin_backup, begin_hold, end_hold
from registry.promotions import list_promotions
from registry.session import open_database, reading
from servers.postgres import create_database, drop_database
from tests.support.database import NOON, Memory, opened_memory
from tests.support.operations import commands, run_commands
from tests.support.places import Place
from tests.support.waiting import wait_for

BACKUP, RESTORE = commands("On one machine", 0), commands("On one machine", 1)


@contextmanager
def another(memory: Memory, folder: Path) -> Iterator[dict[str, str]]:
    """Settings of an empty deployment on the same kind of database."""
    settings = {"EMEND_ARTIFACTS": str(folder / "restored files")}
    if memory.url.startswith("sqlite"):
        yield settings | {"EMEND_DATABASE_URL": f"sqlite:///{folder / 'restored.db'}"}
        return
    server = memory.url.rpartition("/")[0]
    name = f"restored_{uuid.uuid4().hex}"
    yield settings | {"EMEND_DATABASE_URL": create_database(server, name)}
    drop_database(server, name)


def settings_of(memory: Memory) -> dict[str, str]:
    return {"EMEND_DATABASE_URL": memory.url, "EMEND_ARTIFACTS": memory.store.url}


class Traffic:
    """Corrections come, edits end, and every other correction is forgotten right away."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.accepted: list[str] = []
        self.forgotten = 0
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(2)
        self._running: list[Future[None]] = []

    def __enter__(self) -> Traffic:
        acts = (self._correct, self._edit)
        self._running = [self._threads.submit(self._run, act) for act in acts]
        wait_for(self._is_under_way, seconds=60, what="some traffic")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown()
        for one in self._running:
            one.result()  # raises what ended it

    def _is_under_way(self) -> bool:
        return self.forgotten > 5 or any(one.done() for one in self._running)

    def _run(self, act: Callable[[int], None]) -> None:
        number = 0
        while not self._stop.is_set():
            act(number)
            number += 1

    def _correct(self, number: int) -> None:
        [correction] = self.memory.submit({f"correction {number}": "cat"}).corrections
        if number % 2:
            self.accepted.append(correction.id)
            return
        with self.memory.writing() as session:
            unnamed = forget(session, correction.id, now=NOON)
        with self.memory.writing() as session:
            release_artifacts(session, self.memory.store, unnamed)
        self.forgotten += 1

    def _edit(self, number: int) -> None:
        self.memory.edit({f"edited {number}": "cat"}, now=NOON + timedelta(minutes=number))


def test_a_backup_under_traffic_is_complete(memory: Memory, tmp_path: Path) -> None:
    with Traffic(memory) as traffic:
        before = list(traffic.accepted)
        with memory.reading() as session:
            live = list_promotions(session, limit=1).items[0].version
        made = run_commands(BACKUP, tmp_path, settings_of(memory))
        forgotten = traffic.forgotten
        assert made.returncode == 0, made.stdout + made.stderr
        wait_for(lambda: traffic.forgotten > forgotten, seconds=60, what="traffic afterwards")
    assert not memory.store.is_held()
    with another(memory, tmp_path) as settings:
        restored = run_commands(RESTORE, tmp_path, settings)
        assert restored.returncode == 0, restored.stdout + restored.stderr
        assert restored.stdout.endswith("all is well\n")
        engine = open_database(settings["EMEND_DATABASE_URL"])
        with reading(engine) as session:
            kept = {row.id for row in list_corrections(session, limit=500).items}
            assert list_promotions(session, limit=1).items[0].version >= live
        engine.dispose()
        assert set(before) <= kept
        refused = run_commands(RESTORE, tmp_path, settings)
        assert refused.returncode == 2
        assert "is not empty; nothing was written" in refused.stderr
    again = run_commands(BACKUP, tmp_path, settings_of(memory))
    assert again.returncode == 2
    assert "is not empty" in again.stderr


def test_what_is_forgotten_after_the_dump_is_still_copied(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case that a hold is for."""
    for name, value in settings_of(memory).items():
        monkeypatch.setenv(name, value)
    [correction] = memory.submit({"forgotten": "cat"}).corrections
    image = hashlib.sha256(b"forgotten").hexdigest()
    with memory.writing() as session:
        begin_backup(session, memory.store, now=datetime.now(UTC), hold=timedelta(hours=1))
    with memory.writing() as session, pytest.raises(StoreHeld):
        begin_backup(session, memory.store, now=datetime.now(UTC), hold=timedelta(hours=1))
    assert main(["backup", str(tmp_path / "another")]) == 2
    with memory.writing() as session:
        unnamed = forget(session, correction.id, now=NOON)
    with memory.writing() as session:
        assert release_artifacts(session, memory.store, unnamed) == []
    assert main(["copy-artifacts", "--to", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / image[:2] / image).read_bytes() == b"forgotten"
    assert main(["hold", "--end"]) == 0
    with memory.reading() as session:
        assert unnamed_artifacts(session)[0] == [image]
    with memory.writing() as session:
        assert release_artifacts(session, memory.store, [image]) == [image]


def test_a_backup_whose_hold_did_not_last_is_none(
    memory: Memory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings_of(memory).items():
        monkeypatch.setenv(name, value)
    hour = timedelta(hours=1)
    others: list[str] = []

    def dump(*_: object) -> None:
        """Somebody ends the hold and begins another backup meanwhile."""
        assert main(["hold", "--end"]) == 0
        with memory.writing() as session:
            now = datetime.now(UTC)
            others.append(begin_backup(session, memory.store, now=now, hold=hour))

    monkeypatch.setattr("registry.backup_commands.dump_database", dump)
    assert main(["backup", str(tmp_path / "backup")]) == 2
    assert "the hold had ended before" in one_line(capsys)
    assert not (tmp_path / "backup" / "database.dump").exists()
    assert list(memory.store.holds()) == others
    with memory.writing() as session:
        assert end_hold(session, memory.store, others[0])
        begin_backup(session, memory.store, now=datetime.now(UTC) - 2 * hour, hold=hour)
    assert not memory.store.is_held()
    assert main(["hold", "--end"]) == 2
    assert "the hold had ended before" in one_line(capsys)


def test_an_upload_and_a_backup_hold_a_store_together(memory: Memory) -> None:
    hour, now = timedelta(hours=1), datetime.now(UTC)
    with memory.writing() as session:
        upload = begin_hold(session, memory.store, UPLOAD, now=now, hold=hour)
        backup = begin_backup(session, memory.store, now=now, hold=hour)
    with memory.writing() as session:
        assert end_hold(session, memory.store, upload)
        assert not end_hold(session, memory.store, upload)
    assert list(memory.store.holds()) == [backup]
    assert memory.store.is_held()


def test_the_steps_in_containers(
    postgres_server: str, migrated_template: str, tmp_path: Path
) -> None:
    """The same commands, with what the containers would run run here."""
    backup, restore = commands("In containers", 0), commands("In containers", 1)
    server = make_url(postgres_server)
    login = {"PGHOST": str(server.host), "PGPORT": str(server.port)}
    url = create_database(postgres_server, "emend", template=migrated_template)
    with opened_memory(url, tmp_path / "files") as memory:
        memory.ensure_base()
        with Traffic(memory):
            made = run_commands(backup, tmp_path, settings_of(memory) | login)
        assert made.returncode == 0, made.stdout + made.stderr
    drop_database(postgres_server, "emend")
    create_database(postgres_server, "emend")
    there = {"EMEND_DATABASE_URL": url, "EMEND_ARTIFACTS": str(tmp_path / "restored files")}
    restored = run_commands(restore, tmp_path, there | login)
    drop_database(postgres_server, "emend")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert restored.stdout.endswith("all is well\n")


@pytest.mark.parametrize("place", ["bucket"], indirect=True)
def test_from_a_bucket_to_a_folder_and_back(
    place: Place, tmp_path: Path, migrated_file: Path
) -> None:
    (tmp_path / "emend.db").write_bytes(migrated_file.read_bytes())
    with opened_memory(f"sqlite:///{tmp_path / 'emend.db'}", place.url) as memory:
        memory.ensure_base()
        memory.edit({"one": "cat", "two": "dog"})
        made = run_commands(BACKUP, tmp_path, settings_of(memory))
        assert made.returncode == 0, made.stdout + made.stderr
        assert made.stdout.startswith("4 files (")
        with another(memory, tmp_path) as settings:
            elsewhere = settings | {"EMEND_ARTIFACTS": f"{place.url}/restored"}
            restored = run_commands(RESTORE, tmp_path, elsewhere)
            assert restored.returncode == 0, restored.stdout + restored.stderr
        lost = hashlib.sha256(b"two").hexdigest()
        place.overwrite(lost, b"tvo")
        again = run_commands(BACKUP.replace("monday", "tuesday"), tmp_path, settings_of(memory))
        assert again.returncode == 1
        assert f"lost: {lost}: " in again.stdout


def test_what_is_damaged_is_copied_again_both_ways(
    memory: Memory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings_of(memory).items():
        monkeypatch.setenv(name, value)
    memory.submit({"one": "cat", "two": "dog"})
    copy, one = tmp_path / "copy", hashlib.sha256(b"one").hexdigest()
    assert main(["copy-artifacts", "--to", str(copy)]) == 0
    assert capsys.readouterr().out.startswith("3 files (")
    for damaged, way in ((copy, "--to"), (Path(memory.store.url), "--from")):
        (damaged / one[:2] / one).write_bytes(b"onf")
        assert main(["copy-artifacts", way, str(copy)]) == 0
        assert capsys.readouterr().out == "1 files (3 bytes) copied, 2 there already\n"
        assert (damaged / one[:2] / one).read_bytes() == b"one"
    assert main(["verify"]) == 0


def test_what_keeps_it_from_being_made_is_one_sentence(
    tmp_path: Path,
    migrated_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "emend.db").write_bytes(migrated_file.read_bytes())
    monkeypatch.setenv("EMEND_DATA", str(tmp_path))
    folder = tmp_path / "backup"
    assert main(["restore", str(folder)]) == 2
    assert "there is no such file" in one_line(capsys)
    (folder / "database.part").mkdir(parents=True)
    assert main(["backup", str(folder)]) == 2
    assert f"writing {folder / 'database.dump'} failed: " in one_line(capsys)
    (folder / "database.part").rmdir()
    (folder / "database.dump").write_bytes(b"no dump")
    assert main(["backup", str(folder)]) == 2
    assert "is not empty" in one_line(capsys)
    monkeypatch.setenv("EMEND_DATA", "/proc/self")  # which takes no files, not even root's
    assert main(["restore", str(folder)]) == 2
    assert "data folder /proc/self cannot be written to" in one_line(capsys)
    monkeypatch.setenv("EMEND_DATA", str(folder / "database.dump"))
    assert main(["restore", str(folder)]) == 2
    assert "cannot be written to" in one_line(capsys)
    monkeypatch.setenv("EMEND_DATA", str(tmp_path))
    monkeypatch.setenv("EMEND_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")
    assert main(["restore", str(folder)]) == 2
    assert "file is not a database" in one_line(capsys)


def test_a_tool_that_fails_is_quoted_without_the_password(
    tmp_path: Path, postgres_server: str
) -> None:
    url = make_url(postgres_server).set(password="ge:he\\im", database="nowhere")
    location = url.render_as_string(hide_password=False)
    with pytest.raises(DumpFailed, match=r'pg_dump failed: .*database "nowhere" does not exist'):
        dump_database(location, tmp_path / "dump")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(DumpFailed, match="it is not installed here"):
            dump_database(location, tmp_path / "dump")


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said
