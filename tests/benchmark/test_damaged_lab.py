"""An archive of the lab that is none ends every command with a sentence that names it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tests.support.tiny_lab import tiny_lab


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = tiny_lab(tmp_path_factory.mktemp("lab"))
    (lab / "gtsrb.zip").write_bytes(b"no archive")
    return lab


@pytest.mark.parametrize(
    "command",
    [
        "single",
        "strengths",
        "rehearsal",
        "loop --stage first-job",
        "head_choice.__main__ --material signs --encoder {lab}/base",
        "vqa.__main__ --rows lorsu --work {out}",
    ],
)
def test_it_is_named(
    command: str,
    damaged: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, *told = command.format(lab=damaged, out=tmp_path).split()
    where = ["--lab", str(damaged), "--out", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", [name, *where, *told])
    assert importlib.import_module(f"benchmark.{name}").main() == 1
    said = capsys.readouterr()
    [sentence] = [each for each in (said.err + said.out).splitlines() if "stopped: " in each]
    assert "gtsrb.zip" in sentence
