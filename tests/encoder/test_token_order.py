"""Blocks that hold tokens before images compute the same."""

from __future__ import annotations

import copy

import pytest
import torch
from open_clip.transformer import VisionTransformer

from encoder.token_order import put_tokens_first
from tests.support.tiny_encoder import LAYOUTS, SIDE, tiny_model


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_stay(layout: str) -> None:
    visual = tiny_model(layout).get_submodule("visual").eval()
    changed = copy.deepcopy(visual)
    put_tokens_first(changed)
    images = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(changed(images), visual(images))
        if layout == "open_clip":
            wanted = visual.forward_intermediates(images, indices=[0])["image_intermediates"]
            found = changed.forward_intermediates(images, indices=[0])["image_intermediates"]
            torch.testing.assert_close(found[0], wanted[0])


def test_open_clips_own_blocks_are_turned() -> None:
    visual = tiny_model().get_submodule("visual")
    put_tokens_first(visual)
    orders = [m.batch_first for m in visual.modules() if hasattr(m, "batch_first")]
    assert orders
    assert not any(orders)


def test_an_attention_pool_stays_as_it_is() -> None:
    """CoCa's pool is torch's attention, too, but outside the blocks."""
    visual = VisionTransformer(
        image_size=28, patch_size=14, width=32, layers=1, heads=2, mlp_ratio=2.0,
        attentional_pool=True, attn_pooler_heads=2, output_dim=16,
    ).eval()  # fmt: skip
    changed, images = copy.deepcopy(visual), torch.randn(3, 3, 28, 28)
    put_tokens_first(changed)
    assert changed.attn_pool is not None
    assert changed.attn_pool.attn.batch_first
    with torch.no_grad():
        torch.testing.assert_close(changed(images), visual(images))
