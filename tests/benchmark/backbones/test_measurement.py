"""A tiny tower through the whole path, by every method, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import methods
from benchmark.backbones.measurement import LABELS, Plan, measure, merges_as_trained, watched
from benchmark.backbones.models import build_backbone, outline, tower_weights
from editing.methods import Fit, fit
from editing.parametrize import Parametrisation
from encoder.clip import Encoder
from encoder.deltas import Dense, Sparse
from encoder.errors import UnknownEncoder, UnknownTowerLayout
from tests.support.edit_task import edit_task, quick_config
from tests.support.tiny_encoder import EMBEDDING, SIDE, tiny_encoder, tiny_folder

BATCH = 4
WIDTH, BLOCKS, HIDDEN = 32, 2, 128  # of the tiny tower
TOKENS = (SIDE // 14) ** 2 + 1
RANK = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("encoders") / "tiny"))


def plan(model: str, method: str = "lorsu", *, repeats: int = 2) -> Plan:
    return Plan(model, method, "bf16", BATCH, repeats, seed=0)


@pytest.fixture(scope="module")
def measured(folder: str) -> dict[str, dict[str, Any]]:
    threads = torch.get_num_threads()
    found = {name: measure(plan(folder, name)) for name in methods.method_names()}
    torch.set_num_threads(threads)
    return found


def product(*sides: int) -> int:
    """FLOPs of one matrix product: [a, b] times [b, c]."""
    rows, inner, columns = sides
    return 2 * rows * inner * columns


def test_flops_of_a_step_are_those_of_its_products(measured: dict[str, dict[str, Any]]) -> None:
    patches = product(TOKENS - 1, 3 * 14 * 14, WIDTH)
    qkv, fc = product(TOKENS, WIDTH, 3 * WIDTH), product(TOKENS, WIDTH, HIDDEN)
    out = product(TOKENS, WIDTH, WIDTH)
    attention = 2 * product(TOKENS, WIDTH, TOKENS)  # scores, and sums of values; all heads
    projection = product(1, WIDTH, EMBEDDING)
    block = qkv + attention + out + 2 * fc
    forward = patches + BLOCKS * block + projection
    # Back to the inputs of every product above the first selected weight, and to the selected
    # weights themselves, in full: qkv and fc1 of each block.
    back = projection + BLOCKS * (block + attention + qkv + fc) - qkv
    rows = 2 * 3 * 8  # two heads of width 8: q, k and v
    factors = 3 * BLOCKS * product(rows, RANK, WIDTH)
    loss = 3 * product(BATCH, EMBEDDING, LABELS)  # logits, their way back, and margins
    assert measured["lorsu"]["flops_a_step"] == BATCH * (forward + back) + factors + loss


def test_numbers_are_counted_twice_over(measured: dict[str, dict[str, Any]]) -> None:
    """As we train them, and as LoRSU's authors count; by hand, like the FLOPs."""
    fc1 = int(WIDTH * HIDDEN * 0.05)
    told = measured["lorsu"]
    assert told["trained"] == BLOCKS * (RANK * (2 * 3 * 8 + WIDTH) + fc1)
    assert told["trained_by_the_papers_count"] == BLOCKS * (RANK * (3 * WIDTH + WIDTH) + fc1)
    told = measured["spu"]
    entries = BLOCKS * int(WIDTH * HIDDEN * 0.1)
    assert told["trained_by_the_papers_count"] == entries
    assert told["trained"] == entries + BLOCKS * HIDDEN + WIDTH * EMBEDDING
    told = measured["full_finetune"]
    assert told["trained"] == told["tower_parameters"] == told["trained_by_the_papers_count"]
    assert measured["lora"]["trained"] == measured["lora"]["trained_by_the_papers_count"]


@pytest.mark.parametrize("method", methods.method_names())
def test_every_phase_of_every_method_ran(measured: dict[str, dict[str, Any]], method: str) -> None:
    told = measured[method]
    assert (told["model"], told["method"], told["seed"]) == ("tiny", method, 0)
    assert told["config"]["batch_size"] == told["batch"] == BATCH
    assert {"torch", "open_clip_torch"} <= told["libraries"].keys()
    peaks = told["peak_bytes_by_phase"]
    assert {"build", "prepare", "training", "save", "load", "merge"} <= peaks.keys()
    assert ("scoring" in peaks) == (told["cpu_seconds"]["scoring_an_image"] > 0)
    assert told["peak_bytes"] == max(peaks.values()) > 0
    seconds = told["cpu_seconds"]
    assert len(seconds["steps"]) == 2
    assert told["cpu_minutes_an_epoch"] == pytest.approx(
        800 / BATCH * seconds["step"] / 60, abs=0.01
    )
    assert len(told["losses"]) == 3
    assert told["adapter_bytes"] > 4 * told["trained"]
    assert told["merged_as_trained"] is True
    assert told["flops_a_step"] > 0


def fitted(base: Encoder) -> tuple[Fit, Parametrisation]:
    method, seen = watched(quick_config())
    found = fit(base, edit_task([0, 1]), method, seed=0)
    [edited] = seen
    return found, edited


def test_one_entry_off_is_not_as_trained() -> None:
    base = tiny_encoder()
    found, edited = fitted(base)
    assert merges_as_trained(base, base.merged_deltas(found.deltas, label="as trained"), edited)
    name, delta = next((n, d) for n, d in found.deltas.items() if isinstance(d, Sparse))
    values = delta.values.clone()
    values[0] += 1e-3
    off = base.merged_deltas({**found.deltas, name: Sparse(delta.mask, values)}, label="off")
    assert not merges_as_trained(base, off, edited)


def test_a_weight_that_nothing_selected_must_stay() -> None:
    base = tiny_encoder()
    found, edited = fitted(base)
    stray = "visual.conv1.weight"
    zero = Dense(torch.zeros_like(base.model.get_parameter(stray)))
    merged = base.merged_deltas({**found.deltas, stray: zero}, label="stray")
    assert not merges_as_trained(base, merged, edited)


def test_watching_a_method_changes_nothing() -> None:
    base, task = tiny_encoder(), edit_task([0, 1])
    plain = fit(base, task, quick_config(), seed=0)
    seen, _ = fitted(base)
    assert plain.history.losses == seen.history.losses


def test_a_named_backbone_has_random_weights_and_hardly_any_text_tower() -> None:
    encoder = build_backbone("ViT-S-32-alt", seed=0)
    again, other = (build_backbone("ViT-S-32-alt", seed=seed) for seed in (0, 1))
    assert encoder.base_digest == again.base_digest != other.base_digest
    tower = sum(weight.numel() for weight in tower_weights(encoder).values())
    assert encoder.parameters_count - tower < 600_000


@pytest.mark.parametrize("build", [outline, lambda name: build_backbone(name, seed=0)])
def test_an_unknown_model_is_named(build: Any) -> None:
    with pytest.raises(UnknownEncoder, match="ViT-Z-99"):
        build("ViT-Z-99")
    with pytest.raises(UnknownTowerLayout):
        build("RN50")


def test_a_published_tower_has_an_outline_without_memory() -> None:
    weights = tower_weights(outline("EVA01-g-14"))
    assert sum(weight.numel() for weight in weights.values()) == 1_012_588_928
    assert all(weight.is_meta for weight in weights.values())


def test_a_folder_keeps_its_own_weights(folder: str) -> None:
    own = dict(build_backbone(folder, seed=5).model.named_parameters())
    made = dict(tiny_encoder().model.named_parameters())
    assert all(torch.equal(weight, made[name]) for name, weight in own.items())
    assert Path(folder).name == plan(folder).title
