from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from registry.__main__ import main
from registry.errors import SecretMissing, SecretWeak
from registry.secrets import FEWEST_CHARACTERS, ensure_secret, read_secret
from tests.support.database import together

GOOD = "correct-horse-battery-staple"


def test_a_password_is_read_without_the_line_end_that_an_editor_leaves(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{GOOD}\n")
    assert read_secret(file) == GOOD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("short", "5 characters"),
        ("x" * 40, "different characters"),
        ("changeme-changeme-2026", "well-known"),
        ("postgres1234567890123", "well-known"),
        ("two words\nand a second line", "one line"),
        (f" {GOOD}", "visible characters"),
    ],
)
def test_a_weak_password_is_refused_in_a_sentence_that_does_not_tell_it(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "password"
    file.write_text(text)
    with pytest.raises((SecretWeak, SecretMissing), match=said) as refusal:
        read_secret(file)
    assert str(file) in str(refusal.value)
    assert not text.strip() or text.strip() not in str(refusal.value)


def test_what_is_not_there_or_not_a_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing, match="no such file"):
        read_secret(tmp_path / "nowhere")
    with pytest.raises(SecretMissing, match="directory"):
        read_secret(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(SecretMissing, match="not text"):
        read_secret(tmp_path / "bytes")


def test_a_missing_password_is_made_once_and_differs_each_time(tmp_path: Path) -> None:
    one, other = tmp_path / "database" / "password", tmp_path / "broker" / "password"
    assert ensure_secret(one)
    assert ensure_secret(other)
    first = read_secret(one)
    assert not ensure_secret(one)
    assert read_secret(one) == first != read_secret(other)
    assert len(first) >= 2 * FEWEST_CHARACTERS
    assert stat.S_IMODE(one.stat().st_mode) == 0o444
    assert os.listdir(one.parent) == ["password"]


def test_of_many_at_once_one_makes_it_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "password"
    outcomes = together(8, lambda _: ensure_secret(file))
    assert (outcomes.count(True), outcomes.count(False)) == (1, 7)
    assert os.listdir(tmp_path) == ["password"]


def test_one_that_another_made_meanwhile_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text(GOOD)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert not ensure_secret(file)
    assert read_secret(file) == GOOD
    assert os.listdir(tmp_path) == ["password"]


def test_nothing_is_left_of_one_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("registry.secrets.os.link", refuse)
    with pytest.raises(SecretMissing, match="cannot be written: Input/output error"):
        ensure_secret(tmp_path / "password")
    assert os.listdir(tmp_path) == []


def test_a_weak_one_that_is_there_is_neither_kept_nor_replaced(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    with pytest.raises(SecretWeak):
        ensure_secret(file)
    assert file.read_text() == "hunter2"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SecretMissing, match="cannot be written"):
        ensure_secret(tmp_path / "file" / "password")


def test_the_command_makes_checks_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "password"
    assert main(["secrets", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: made\n"
    assert main(["secrets", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: there already\n"
    file.chmod(0o644)
    file.write_text("hunter2")
    assert main(["secrets", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "too weak" in said.err
    assert "hunter2" not in said.err
