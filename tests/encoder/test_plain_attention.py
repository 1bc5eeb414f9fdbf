"""Attention as matrix products computes the same."""

from __future__ import annotations

import copy

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from encoder import plain_attention
from encoder.plain_attention import MOST_TOKENS, attend_plainly
from encoder.token_order import put_tokens_first
from tests.support.tiny_encoder import LAYOUTS, SIDE, tiny_model


@pytest.fixture(autouse=True)
def short_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_attention, "LEAST_TOKENS", 1)


@pytest.mark.parametrize("tokens_first", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_and_gradients_stay(layout: str, *, tokens_first: bool) -> None:
    visual = tiny_model(layout).get_submodule("visual").eval()
    changed = copy.deepcopy(visual)
    attend_plainly(changed)
    if tokens_first:
        put_tokens_first(changed)
    images = torch.randn(3, 3, SIDE, SIDE)
    wanted, found = visual(images), changed(images)
    torch.testing.assert_close(found, wanted)
    wanted.square().sum().backward()
    found.square().sum().backward()
    gradients = dict(visual.named_parameters())
    assert gradients
    for name, weight in changed.named_parameters():
        if gradients[name].grad is not None:
            torch.testing.assert_close(weight.grad, gradients[name].grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_block_of_every_layout_is_changed(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left that would call torch's own."""
    visual = tiny_model(layout).get_submodule("visual").eval()
    pools = [m for m in visual.modules() if type(m).__name__ == "AttentionPoolLatent"]
    attend_plainly(visual)

    def fused(*_: object, **__: object) -> None:
        raise AssertionError("torch's fused attention was called")

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", fused)
    monkeypatch.setattr(nn.functional, "multi_head_attention_forward", fused)
    with torch.no_grad():
        assert visual(torch.randn(2, 3, SIDE, SIDE)).shape[0] == 2
    assert all(not pool.fused_attn for pool in pools)


def attention(*, batch_first: bool) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    plain = nn.MultiheadAttention(16, 2, batch_first=batch_first).eval()
    changed = copy.deepcopy(plain)
    attend_plainly(changed)
    return plain, changed


@pytest.mark.parametrize("batch_first", [False, True])
def test_masks_other_keys_and_weights_are_torchs_own(*, batch_first: bool) -> None:
    plain, changed = attention(batch_first=batch_first)
    x, other = torch.randn(5, 5, 16), torch.randn(5, 5, 16)
    mask = torch.full((5, 5), -torch.inf).triu(1)
    with torch.no_grad():
        for told in (
            {"need_weights": False, "attn_mask": mask},
            {"need_weights": False, "key_padding_mask": torch.eye(5, dtype=torch.bool)},
            {"need_weights": True},
        ):
            wanted, found = plain(x, x, x, **told), changed(x, x, x, **told)
            torch.testing.assert_close(found[0], wanted[0])
            assert (found[1] is None) == (wanted[1] is None)
        torch.testing.assert_close(
            changed(x, other, other, need_weights=False)[0],
            plain(x, other, other, need_weights=False)[0],
        )


def test_long_inputs_stay_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 336 pixels and 14 a patch the scores of a step would take gigabytes."""
    calls: list[int] = []
    torchs = nn.functional.multi_head_attention_forward

    def counted(query: torch.Tensor, *others: object, **told: object) -> object:
        calls.append(query.shape[0])
        return torchs(query, *others, **told)  # type: ignore[arg-type]

    monkeypatch.setattr(nn.functional, "multi_head_attention_forward", counted)
    _, changed = attention(batch_first=False)
    for tokens in (MOST_TOKENS, MOST_TOKENS + 1):
        x = torch.randn(tokens, 1, 16, requires_grad=True)
        changed(x, x, x, need_weights=False)
    assert calls == [MOST_TOKENS + 1]


@pytest.mark.parametrize(("side", "fused"), [(56, False), (336, True)])
def test_a_timm_tower_is_changed_by_its_length(side: int, *, fused: bool) -> None:
    block = nn.Module()
    block.fused_attn = True  # type: ignore[assignment]
    tower = nn.Module()
    tower.block, tower.patches = block, nn.Module()
    tower.patches.num_patches = (side // 14) ** 2  # type: ignore[assignment]
    attend_plainly(tower)
    assert block.fused_attn is fused


def test_a_tower_that_does_not_say_how_long_it_is_stays() -> None:
    block = nn.Module()
    block.fused_attn = True  # type: ignore[assignment]
    attend_plainly(block)
    assert block.fused_attn


def test_only_the_copy_is_changed() -> None:
    visual = VisionTransformer(
        image_size=28, patch_size=14, width=32, layers=1, heads=2, mlp_ratio=2.0, output_dim=16
    )
    attend_plainly(copy.deepcopy(visual))
    kinds = {type(m) for m in visual.modules() if isinstance(m, nn.MultiheadAttention)}
    assert kinds == {nn.MultiheadAttention}
    assert plain_attention._PlainAttention not in kinds


def test_short_inputs_stay_with_torch_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_attention, "LEAST_TOKENS", 100)
    plain, changed = attention(batch_first=False)
    x = torch.randn(65, 2, 16)
    with torch.no_grad():
        found, wanted = (each(x, x, x, need_weights=False)[0] for each in (changed, plain))
    assert torch.equal(found, wanted)
