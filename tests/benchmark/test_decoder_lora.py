from __future__ import annotations

import pytest
import torch

from benchmark.decoder_lora import decoder_linears, tune_decoder
from editing.methods import LoraConfig
from encoder.deltas import LowRank
from encoder.vlm.model import VisionLanguageModel
from tests.support.answer_task import answer_task, preferred
from tests.support.edit_task import STILL
from tests.support.tiny_encoder import state_bytes, tiny_encoder

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def quick_lora(**changes: object) -> LoraConfig:
    values = {
        "rank": 4,
        "alpha": 4,
        "epochs": 60,
        "min_steps": 0,
        "rounds": 1,
        "learning_rate": 1e-2,
        "stop_margin": 0.5,
        "precision": "fp32",
        "augmentation": STILL,
    }
    return LoraConfig.model_validate({**values, **changes})


def test_the_decoder_learns_the_answers_and_nothing_else_moves(
    tiny_vlm: VisionLanguageModel,
) -> None:
    encoder = tiny_encoder()
    task = answer_task(tiny_vlm, encoder)
    before = [state_bytes(part) for part in (encoder.model, tiny_vlm.decoder, tiny_vlm.connector)]
    tuned = tune_decoder(encoder, task, quick_lora(), seed=0)
    assert tuple(preferred(tuned.vlm, encoder, task)) == task.right
    assert not set(preferred(tiny_vlm, encoder, task)) & set(task.right)
    after = [state_bytes(part) for part in (encoder.model, tiny_vlm.decoder, tiny_vlm.connector)]
    assert after == before
    assert tuned.vlm.connector is tiny_vlm.connector
    theirs = tuned.vlm.decoder.state_dict()
    for name, weight in tiny_vlm.decoder.state_dict().items():
        assert torch.equal(theirs[name], weight) is (name not in tuned.deltas), name


def test_every_linear_of_a_block_moves_by_low_rank(tiny_vlm: VisionLanguageModel) -> None:
    task = answer_task(tiny_vlm, tiny_encoder(), images=1)
    tuned = tune_decoder(tiny_encoder(), task, quick_lora(epochs=1, rank=3), seed=0)
    expected = {
        f"model.layers.{block}.{linear}.weight" for block in range(2) for linear in LINEARS + MLP
    }
    assert set(tuned.deltas) == expected == set(decoder_linears(tiny_vlm))
    assert all(isinstance(delta, LowRank) for delta in tuned.deltas.values())
    width, hidden = 32, 64
    assert tuned.parameters == 2 * 3 * (4 * 2 * width + 3 * (width + hidden))
    assert tuned.seconds > 0


def test_no_steps_change_nothing(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    tuned = tune_decoder(encoder, answer_task(tiny_vlm, encoder), quick_lora(epochs=0), seed=0)
    assert state_bytes(tuned.vlm.decoder) == state_bytes(tiny_vlm.decoder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bytes(tiny_vlm: VisionLanguageModel, precision: str) -> None:
    encoder = tiny_encoder()
    task, config = answer_task(tiny_vlm, encoder), quick_lora(epochs=3, precision=precision)
    first, again, other = (
        state_bytes(tune_decoder(encoder, task, config, seed=seed).vlm.decoder)
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other
