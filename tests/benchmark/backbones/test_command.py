"""`python -m benchmark.backbones`: what it keeps, does again, refuses and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.backbones import __main__ as command
from benchmark.backbones.apart import ProcessEnded
from benchmark.backbones.measurement import Plan
from benchmark.backbones.models import outline
from benchmark.backbones.records import Records
from benchmark.backbones.room import GIB, MemoryShort, activation_bytes, check_room, estimated_bytes
from benchmark.backbones.table import markdown
from benchmark.run import main as run_study
from tests.support.tiny_encoder import tiny_folder

GIANT = Plan("EVA01-g-14", "lorsu", "bf16", 8, 2, seed=0)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tiny_folder(tmp_path / "encoders" / "tiny"))


def run(folder: str, out: Path, *more: str) -> int:
    options = ["--model", folder, "--batch", "2", "--repeats", "1", "--out", str(out)]
    return command.main([*options, *more])


def never(plan: Plan) -> Mapping[str, Any]:
    raise AssertionError(f"{plan} was measured")


def test_a_measurement_in_its_own_process_is_kept_and_printed(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    options = ["--batch", "2", "--repeats", "1", "--out", str(out), "--methods", "layernorm"]
    subprocess.run(
        [sys.executable, "-m", "benchmark.backbones", "--model", folder, *options], check=True
    )
    record = json.loads((out / "tiny-layernorm.json").read_text())
    assert {"commit", "model", "method", "config", "seed", "libraries", "trained"} <= record.keys()
    assert record["merged_as_trained"] is True
    assert str(tmp_path) not in json.dumps(record)
    with monkeypatch.context() as patched:
        patched.setattr(command, "measure_apart", never)
        assert run(folder, out, "--methods", "layernorm") == 0  # kept
        for again in (["--again"], ["--seed", "1"], ["--precision", "fp32"]):
            with pytest.raises(AssertionError, match="was measured"):
                run(folder, out, "--methods", "layernorm", *again)
    capsys.readouterr()
    assert command.main(["--table", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| tiny | LN | 2 | 384 | 384 |")


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--methods", "lorsy"], "lorsy"), (["--model", "ViT-Z-99"], "ViT-Z-99")],
)
def test_what_is_unknown_is_named(
    folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    assert run(folder, tmp_path / "out", "--methods", "lorsu", *options) == 1
    assert named in capsys.readouterr().out


def test_nothing_begins_without_the_memory_it_needs(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "free_bytes", lambda: GIB // 2)
    monkeypatch.setattr(command, "measure_apart", never)
    assert run(folder, tmp_path / "out", "--methods", "lorsu") == 1
    told = capsys.readouterr().out
    assert "tiny by lorsu in batches of 2 needs about" in told
    assert "0.5 GiB are free" in told
    assert not (tmp_path / "out").exists()


def test_a_process_that_is_killed_is_told_of(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(plan: Plan) -> Mapping[str, Any]:
        raise ProcessEnded(plan)

    monkeypatch.setattr(command, "measure_apart", killed)
    assert run(folder, tmp_path / "out", "--methods", "lorsu") == 1
    assert "ended without a result" in capsys.readouterr().out


def test_the_giant_s_estimate_covers_its_weights_and_what_is_trained() -> None:
    needed = {
        method: estimated_bytes(replace(GIANT, method=method))
        for method in ("layernorm", "spu", "lorsu", "lora", "full_finetune")
    }
    assert list(needed.values()) == sorted(needed.values())
    weights = 4 * 1_012_588_928
    assert needed["full_finetune"] > 6 * weights  # weights, edited, change, gradient, two of Adam
    assert needed["layernorm"] > 1.5 * weights + 8 * activation_bytes(outline("EVA01-g-14"), "bf16")


def test_room_is_for_the_need_and_a_reserve() -> None:
    needed = estimated_bytes(GIANT) + GIB
    check_room(GIANT, free=needed)
    with pytest.raises(MemoryShort) as short:
        check_room(GIANT, free=needed - 1)
    assert short.value.needed == needed


def test_the_table_puts_small_towers_first_and_methods_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = Records(tmp_path)
    told: dict[str, Any] = {
        "trained": 1_234,
        "trained_by_the_papers_count": 2_345,
        "flops_a_step": 5_000_000_000,
        "cpu_minutes_an_epoch": 12.34,
        "cpu_minutes_of_scoring": 1.26,
        "peak_bytes": 3 * GIB // 2,
        "adapter_bytes": 2_300_000,
    }
    for model, size in (("large", 20_000), ("small", 10_000)):
        for method in ("spu", "lorsu"):
            plan = Plan(model, method, "bf16", 8, 2, seed=0)
            records.save(plan, {**plan.facts(), "tower_parameters": size, **told})
    first, *_, last = markdown(records.all()).splitlines()[2:]
    assert first == ("| small | LoRSU | 8 | 1,234 | 2,345 | 12.34 % | 5 | 12.3 | 1.3 | 1.5 | 2.3 |")
    assert last.startswith("| large | SPU | 8 |")
    assert not list(tmp_path.glob("*.part"))
    assert run_study(["backbones", "--table", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == markdown(records.all())
