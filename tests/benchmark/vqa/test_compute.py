"""Counted FLOPs against hand-computed ones, and parameter counts against the papers'."""

from __future__ import annotations

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn

from benchmark.vqa.compute import Price, count_flops, markdown, meta_llama, of_vlm, prices
from encoder.vlm.model import VisionLanguageModel
from tests.support.tiny_encoder import tiny_encoder

TOKENS, INPUTS, OUTPUTS = 3, 5, 7
PRODUCT = 2 * TOKENS * INPUTS * OUTPUTS


@pytest.mark.parametrize(
    ("weight_moves", "input_moves", "products"),
    [(False, False, 1), (True, False, 2), (False, True, 2), (True, True, 3)],
)
def test_a_linear_costs_a_product_for_each_of_output_input_and_weight(
    weight_moves: bool, input_moves: bool, products: int
) -> None:
    linear = nn.Linear(INPUTS, OUTPUTS, bias=False).requires_grad_(weight_moves)
    tokens = torch.randn(TOKENS, INPUTS, requires_grad=input_moves)
    assert count_flops(lambda: linear(tokens)) == products * PRODUCT


@pytest.fixture(scope="module")
def small() -> dict[str, Price]:
    """The tower of LLaVA-1.5 over a decoder that is built at once."""
    with torch.device("meta"):
        model = CLIP(
            embed_dim=768,
            vision_cfg=CLIPVisionCfg(layers=24, width=1024, patch_size=14, image_size=336),
            text_cfg=CLIPTextCfg(layers=1, width=64, heads=4),
        )
    config = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 100,
    }
    found = prices(model, meta_llama(config), tokens=640)
    return {price.title: price for price in found}


def test_the_tower_s_numbers_are_the_papers(small: dict[str, Price]) -> None:
    assert small["encoder, F-FT"].parameters == 304_293_888
    assert small["encoder, LoRA"].parameters == 12_640_256
    assert small["encoder, LN"].parameters == 102_400
    # fc1: 10,066,320; biases of fc1: 24 x 4,096; output projection: 1,024 x 768
    assert small["encoder, SPU"].parameters == 10_066_320 + 24 * 4096 + 1024 * 768
    # fc1: 5,033,160; of each block 384 rows of q, k, v at rank 32
    assert small["encoder, LoRSU"].parameters == 5_033_160 + 24 * 32 * (384 + 1024)


def test_the_decoder_s_numbers(small: dict[str, Price]) -> None:
    # a layer: q, k, v, o [64, 64]; gate, up [128, 64]; down [64, 128]
    pairs = 2 * 32 * (4 * (64 + 64) + 3 * (64 + 128))
    assert small["language model, LoRA"].parameters == pairs
    layer = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    total = 2 * layer + 64 + 2 * 100 * 64
    assert small["language model, full fine-tuning"].parameters == total


def test_moving_more_of_the_tower_costs_more(small: dict[str, Price]) -> None:
    order = ["LN", "SPU", "LoRSU", "F-FT"]
    flops = [small[f"encoder, {name}"].flops for name in order]
    assert flops == sorted(flops)
    # ViT-L/14-336 forward: 0.38 TFLOP; forward and both backward products: three times that
    assert flops[-1] == pytest.approx(3 * 0.382e12, rel=0.02)


def test_the_tower_is_read_in_every_step_of_the_decoder(small: dict[str, Price]) -> None:
    lora, full = (small[f"language model, {n}"].flops for n in ("LoRA", "full fine-tuning"))
    # So small a decoder costs nothing beside the tower; its pairs cost as much as its weights.
    assert lora == pytest.approx(0.382e12, rel=0.02)
    assert full == pytest.approx(0.382e12, rel=0.02)


def test_a_loaded_vlm_has_its_own_prices(tiny_vlm: VisionLanguageModel) -> None:
    found = of_vlm(tiny_encoder(), tiny_vlm)
    weights = sum(weight.numel() for weight in tiny_vlm.decoder.parameters())
    assert found[-1].parameters == weights
    assert all(price.flops > 0 for price in found)
    assert next(iter(tiny_vlm.decoder.parameters())).device.type == "cpu"
    lines = markdown(found).splitlines()
    assert len(lines) == 2 + len(found)
    assert lines[2].endswith("| 1.0 |")
