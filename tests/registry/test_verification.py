"""`python -m registry verify` finds each kind of damage, and nothing where all is well."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.__main__ import main
from registry.session import open_database
from registry.verification import verify
from tests.support.database import Memory, opened_memory
from tests.support.places import Place

folder_only = pytest.mark.parametrize("place", ["folder"], indirect=True)
ONE = hashlib.sha256(b"one").hexdigest()


@pytest.fixture
def filled(
    place: Place, tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Memory]:
    """Two edits, of which the second is stacked; the environment names this deployment."""
    url = f"sqlite:///{tmp_path / 'emend.db'}"
    shutil.copyfile(migrated_file, tmp_path / "emend.db")
    monkeypatch.setenv("EMEND_DATABASE_URL", url)
    monkeypatch.setenv("EMEND_ARTIFACTS", place.url)
    with opened_memory(url, place.url) as memory:
        memory.ensure_base()
        memory.edit({"one": "cat"})
        memory.edit({"two": "dog"}, stacked=True)
        yield memory


def break_rows(memory: Memory, *statements: str) -> None:
    """As no release does: without the checks of foreign keys."""
    engine = open_database(memory.url, foreign_keys=False)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def found(memory: Memory) -> list[tuple[str, str]]:
    findings = verify(memory.engine, memory.store, threads=2).findings
    return [(finding.kind, finding.subject) for finding in findings]


def test_a_store_in_order_is_clean(filled: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    stray = filled.store.put(b"put and not yet named")
    progress: list[tuple[int, int]] = []
    result = verify(filled.engine, filled.store, progress=lambda *each: progress.append(each))
    assert result.findings == []
    assert [file.name for file in result.strays] == [f"{stray[:2]}/{stray}"]
    assert result.files == 5  # two images, versions 0, 1 and 2
    assert progress == [(5, 5)]
    assert main(["verify"]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("bytes checked: all is well\n")
    assert stray in said.out
    assert said.err == ""


def test_missing_damaged_and_shortened_files_are_found(
    filled: Memory, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    two = hashlib.sha256(b"two").hexdigest()
    place.overwrite(ONE, b"onf")
    filled.store.delete(two)
    version_1 = filled.store.put(b"adapter of nobody")
    filled.store.delete(version_1)
    assert sorted(found(filled)) == [("damaged", ONE), ("missing", two)]
    assert main(["verify"]) == 1
    assert f"damaged: {ONE}: " in capsys.readouterr().out
    assert main(["verify", "--json"]) == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {finding["kind"] for finding in told["findings"]} == {"damaged", "missing"}
    assert told["files"] == 5


@folder_only
def test_a_file_that_only_a_left_over_record_names_is_no_finding(filled: Memory) -> None:
    """Its release was cut short after the file went: the next sweep takes the record too."""
    with filled.writing() as session:
        filled.store.delete(filled.keep(session, b"nothing names this"))
    assert found(filled) == []


@folder_only
@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (f"UPDATE artifacts SET bytes = 4 WHERE sha256 = '{ONE}'", [("size", ONE)]),
        (f"DELETE FROM artifacts WHERE sha256 = '{ONE}'", [("record", ONE)]),
        ("UPDATE adapters SET bytes = 1 WHERE version = 2", [("adapter", "2")]),
        ("UPDATE adapters SET parent = 7 WHERE version = 2", [("lineage", "2")]),
        ("UPDATE adapters SET parent = NULL WHERE version = 1", [("lineage", "1")]),
        ("UPDATE adapters SET stacked_on = 2 WHERE version = 2", [("lineage", "2")]),
        ("DELETE FROM promotions WHERE id = 2", [("promotion", "3")]),
        ("UPDATE promotions SET version = 9 WHERE id = 3", [("promotion", "3")]),
        ("DELETE FROM promotions", [("promotion", "live")]),
    ],
)
def test_broken_rows_are_found(
    filled: Memory, statement: str, expected: list[tuple[str, str]]
) -> None:
    break_rows(filled, statement)
    assert found(filled) == expected


@folder_only
def test_a_version_that_went_is_missed_by_all_that_name_it(filled: Memory) -> None:
    break_rows(filled, "DELETE FROM adapters WHERE version = 1")
    assert found(filled) == [("lineage", "2"), ("lineage", "2"), ("promotion", "2")]


@folder_only
def test_what_keeps_it_from_running_is_one_sentence(
    filled: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value, said in (
        ("EMEND_ARTIFACTS", "/dev/null/here", "cannot use the store /dev/null/here"),
        ("EMEND_DATABASE_URL", "postgresql://me:geheim@127.0.0.1:1/x", "cannot use the database"),
        ("EMEND_DATABASE_URL", "mysql://x", "only sqlite:// and postgresql://"),
        ("EMEND_KEEP_BYTES", "many", "EMEND_KEEP_BYTES"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert main(["verify"]) == 2
        told = capsys.readouterr()
        assert said in told.err
        assert told.err.count("\n") == 1
        assert "geheim" not in told.err
        assert told.out == ""
    assert filled.store.exists(ONE)


class InTwoHours(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) + timedelta(hours=2)


def test_collect_removes_what_no_row_names(
    filled: Memory,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stray = filled.store.put(b"put, and then the process died")
    with filled.writing() as session:
        filled.keep(session, b"on record, though nothing names it")
    kept = [name for name in place.files() if stray not in name]
    assert main(["collect"]) == 0  # the stray is young
    assert "0 files (0 bytes) without a row were removed, 1 whose rows went" in _out(capsys)
    monkeypatch.setattr("registry.store_commands.datetime", InTwoHours)
    assert main(["collect", "--older-than", "3"]) == 0
    assert filled.store.exists(stray)
    assert main(["collect", "--older-than", "1", "--dry-run"]) == 0
    assert f"{stray[:2]}/{stray}" in _out(capsys)
    assert filled.store.exists(stray)
    assert main(["collect", "--older-than", "1"]) == 0
    assert "1 files (30 bytes) without a row were removed" in _out(capsys)
    assert len(place.files()) == len(kept) - 1
    assert not filled.store.exists(stray)
    assert main(["verify"]) == 0


@pytest.mark.parametrize("hours", ["nan", "inf", "1e9", "-1", "0.5", "soon", ""])
@pytest.mark.parametrize("command", [["collect", "--older-than"], ["hold", "--hours"]])
def test_hours_that_are_none_are_refused(
    command: list[str], hours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main([*command[:-1], f"{command[-1]}={hours}"])
    assert refusal.value.code == 2
    assert f"{hours!r} is no number of hours from 1 to 8760" in capsys.readouterr().err


@folder_only
def test_a_folder_that_is_not_ours_may_be_closed_to_us(
    filled: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk's `lost+found` to everybody but root."""
    closed = Path(filled.store.url) / "lost+found"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("registry.local_folder.os.scandir", refuse)
    assert "lost+found" in filled.store.folders()
    assert main(["verify"]) == 0
    assert main(["collect"]) == 0


def _out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out
