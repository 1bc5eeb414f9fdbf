"""Fast embedding agrees with the encoder's own."""

from __future__ import annotations

import pytest
import torch

from benchmark.eyes import Eyes
from tests.support.tiny_encoder import LAYOUTS, random_pixels, state_bytes, tiny_encoder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_agrees_with_the_encoder(layout: str) -> None:
    encoder, pixels = tiny_encoder(layout), random_pixels(5)
    before, flags = state_bytes(encoder.model), _orders(encoder.model)
    wanted = encoder.embed_images(pixels)
    torch.testing.assert_close(Eyes(encoder, precision="fp32").embed(pixels), wanted)
    half = Eyes(encoder).embed(pixels)
    assert (half * wanted).sum(dim=1).min() > 0.99
    torch.testing.assert_close(half.norm(dim=1), torch.ones(5))
    assert state_bytes(encoder.model) == before
    assert _orders(encoder.model) == flags  # serving goes on as it did


def test_no_photos_have_no_features() -> None:
    encoder = tiny_encoder()
    assert (
        Eyes(encoder).embed(random_pixels(0)).shape == encoder.embed_images(random_pixels(0)).shape
    )


def _orders(model: torch.nn.Module) -> list[object]:
    return [getattr(module, "batch_first", None) for module in model.modules()]
