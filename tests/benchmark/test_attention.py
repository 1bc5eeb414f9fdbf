"""The two ways of attention, compared on a tiny tower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmark.attention import main
from tests.support.tiny_encoder import tiny_folder


def test_both_ways_are_timed_side_by_side(tmp_path: Path) -> None:
    folder, out = tmp_path / "tiny", tmp_path / "attention.json"
    tiny_folder(folder)
    threads = torch.get_num_threads()
    told = ["--encoder", str(folder), "--images", "2", "--turns", "3", "--out", str(out)]
    try:
        assert main(told) == 0
    finally:
        torch.set_num_threads(threads)
    [(name, found)] = json.loads(out.read_text())["encoders"].items()
    assert name == "tiny"  # no path of this machine
    assert found["tokens"] > 1
    for what in ("step", "forward"):
        assert min(found[what].values()) > 0
    for way in ("plain", "fused"):
        assert 0 < found[f"{way}_from_fp32"]["mean"] < 1e-2


def test_an_unknown_encoder_ends_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--encoder", "nonsense-99", "--out", str(tmp_path / "a.json")]) == 1
    assert "nonsense-99" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
