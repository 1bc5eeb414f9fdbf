"""The snapshot benchmark on a tiny encoder: real files, short chains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmark import snapshots
from encoder.clip import load_encoder
from registry.snapshots import SHALLOW
from tests.support.tiny_encoder import tiny_folder


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    return str(tiny_folder(tmp_path / "encoder"))


def test_all_ways_are_measured_and_lead_to_the_same_bits(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SECONDS_A_WAY", 0.01)
    threads = torch.get_num_threads()
    lengths = ["--lengths", "12", "3", "6", "--above", "2", "--chains-up-to", "6"]
    assert snapshots.main(["--encoder", encoder, "--out", str(tmp_path), *lengths]) == 0
    torch.set_num_threads(threads)
    result = json.loads((tmp_path / "snapshots.json").read_text())
    versions = result["versions"]
    assert list(versions) == ["3", "6", "12"]
    assert [versions[length]["same_bits"] for length in ("3", "6")] == [True, True]
    for length, ways in versions.items():
        assert ways["snapshot"]["adapters"] == 0
        assert ways["snapshot_and_above"]["adapters"] == 2
        assert ways["chain"]["adapters"] == int(length)
        assert ways["snapshot"]["peak_bytes"] >= 0
    assert versions["12"]["chain"]["in_proportion_to"] == 6
    assert versions["12"]["chain"]["bytes"] == 2 * versions["6"]["chain"]["bytes"]
    assert (result["comparison"]["short"], result["comparison"]["long"]) == (3, 12)
    assert result["comparison"]["ratio"] > 0


def test_adapters_have_the_shape_of_lorsu(encoder: str) -> None:
    base = load_encoder(encoder)
    adapter = snapshots.adapter_on(base, snapshots.synthetic_deltas(base, seed=1), version=1)
    assert adapter.provenance.config["heads"] == 2
    block = base.tower.blocks[0]
    fc1 = adapter.deltas[block.fc1[0]]
    weight = dict(base.model.named_parameters())[block.fc1[0]]
    assert fc1.parameters == int(weight.numel() * adapter.provenance.config["fc1_fraction"])
    assert {name for one in base.tower.blocks for name in (*one.attention[:1], *one.fc1)} <= set(
        adapter.deltas
    )


def test_as_many_are_left_above_as_a_worker_leaves() -> None:
    assert snapshots.ABOVE == SHALLOW
