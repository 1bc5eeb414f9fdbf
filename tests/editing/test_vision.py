from __future__ import annotations

import pytest
import torch

from editing.vision import VisionFunction
from encoder.deltas import Dense
from encoder.vlm.reading import TowerReading, read_tokens
from tests.support.tiny_encoder import LAYOUTS, SIDE, random_pixels, state_bytes, tiny_encoder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bf16_features_are_close_unit_vectors_in_fp32(layout: str) -> None:
    encoder = tiny_encoder(layout)
    pixels = random_pixels(4)
    features = VisionFunction(encoder, precision="bf16")(pixels, {})
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))
    exact = encoder.embed_images(pixels)
    assert float((features * exact).sum(dim=1).min()) > 0.99
    assert not torch.equal(features, exact)


def test_other_weights_never_reach_the_encoder() -> None:
    encoder = tiny_encoder()
    before = state_bytes(encoder.model)
    name = encoder.tower.blocks[0].fc1[0]
    vision = VisionFunction(encoder, precision="fp32")
    pixels = random_pixels(2)
    changed = vision(pixels, {name: torch.zeros_like(vision.weight(name))})
    assert not torch.allclose(changed, encoder.embed_images(pixels), atol=1e-3)
    assert state_bytes(encoder.model) == before
    shared = encoder.model.get_parameter(name)
    assert vision.weight(name).data_ptr() == shared.data_ptr()


def test_a_half_precision_encoder_is_trained_in_fp32() -> None:
    encoder = tiny_encoder()
    exact = encoder.embed_images(random_pixels(2))
    encoder.model.to(torch.float16)
    vision = VisionFunction(encoder, precision="fp32")
    name = encoder.tower.blocks[0].fc1[0]
    assert vision.weight(name).dtype == torch.float32
    torch.testing.assert_close(vision(random_pixels(2), {}), exact, atol=5e-3, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tokens_are_those_of_the_merged_encoder(layout: str) -> None:
    encoder = tiny_encoder(layout)
    vision = VisionFunction(encoder, precision="fp32")
    reading = TowerReading(blocks=1, class_token=False, image_size=SIDE)
    name = encoder.tower.blocks[0].fc1[0]
    moved = 0.1 * torch.randn_like(vision.weight(name))
    merged = encoder.merged_deltas({name: Dense(moved)}, label="moved")
    pixels = random_pixels(2)
    images = encoder.preprocessing.normalise(pixels)
    expected, before = (
        read_tokens(each.model.get_submodule("visual"), images, reading)
        for each in (merged, encoder)
    )
    found = vision.tokens(pixels, {name: vision.weight(name) + moved}, reading)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, before, atol=1e-3)


def test_weights_behind_the_reading_have_no_gradient() -> None:
    encoder = tiny_encoder()
    vision = VisionFunction(encoder, precision="fp32")
    reading = TowerReading(blocks=1, class_token=True, image_size=SIDE)
    weights = {
        block.fc1[0]: vision.weight(block.fc1[0]).clone().requires_grad_()
        for block in encoder.tower.blocks
    }
    torch.autograd.backward(vision.tokens(random_pixels(1), weights, reading).square().sum())
    seen, unseen = weights.values()
    assert seen.grad is not None
    assert unseen.grad is None
