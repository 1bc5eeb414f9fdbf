from __future__ import annotations

import open_clip
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from encoder.errors import UnknownTowerLayout
from encoder.tower import view_tower
from encoder.vlm.reading import (
    TowerReading,
    patch_count,
    prefix_tokens,
    read_tokens,
    tower_width,
    unreached,
)
from tests.support.tiny_encoder import LAYOUTS, SIDE, tiny_encoder, tiny_model


def tower(layout: str) -> nn.Module:
    model = tiny_model(layout).eval().requires_grad_(requires_grad=False)
    return model.get_submodule("visual")


def images(side: int = SIDE, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def seen_after_block(visual: nn.Module, index: int, pixels: Tensor) -> Tensor:
    """What the block really hands on when the whole tower runs."""
    found: list[Tensor] = []
    open_clip_layout = getattr(visual, "trunk", None) is None
    path = "transformer.resblocks" if open_clip_layout else "trunk.blocks"
    block = visual.get_submodule(f"{path}.{index}")
    hook = block.register_forward_hook(lambda *call: found.append(call[-1]))
    visual(pixels)
    hook.remove()
    return found[0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_tokens_are_what_the_tower_computes_on_its_way(layout: str, blocks: int) -> None:
    visual = tower(layout)
    prefix = prefix_tokens(visual)
    expected = seen_after_block(visual, blocks - 1, images())
    found = read_tokens(visual, images(), TowerReading(blocks, False, SIDE))
    assert found.shape == (2, patch_count(visual, SIDE), tower_width(visual))
    torch.testing.assert_close(found, expected[:, prefix:])
    if prefix:
        whole = read_tokens(visual, images(), TowerReading(blocks, True, SIDE))
        torch.testing.assert_close(whole, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_reach_what_is_read_and_nothing_else(layout: str) -> None:
    model = tiny_model(layout).eval()
    view = view_tower(model)
    visual = model.get_submodule("visual")
    weights = {name: p.detach().clone().requires_grad_() for name, p in visual.named_parameters()}
    reading = TowerReading(1, False, SIDE)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = visual

        def forward(self, pixels: Tensor) -> Tensor:
            return read_tokens(self.visual, pixels, reading)

    prefixed = {f"visual.{name}": weight for name, weight in weights.items()}
    functional_call(Reader(), prefixed, (images(),)).square().sum().backward()
    moved = {f"visual.{name}" for name, w in weights.items() if w.grad is not None}
    names = [f"visual.{name}" for name in weights]
    late = set(unreached(reading, view, [*names, "logit_scale"]))
    assert late - set(names) == {"logit_scale"}
    assert moved == set(names) - late
    assert {name for name in late if ".1." in name}
    assert view.projection is None or view.projection in late


@pytest.mark.parametrize("layout", ["open_clip", "timm_fused", "siglip"])
def test_another_image_size_resamples_positions_as_a_larger_tower_has_them(layout: str) -> None:
    """The same weights in a tower built for 56 px, its positions resampled by torch directly."""
    small, large_side = tower(layout), 2 * SIDE
    large = tower(layout)
    name = "positional_embedding" if layout == "open_clip" else "trunk.pos_embed"
    own = small.get_parameter(name).detach()
    own = own[None] if own.ndim == 2 else own
    prefix = prefix_tokens(small)
    width = own.shape[-1]
    square = own[:, prefix:].reshape(1, 2, 2, width).permute(0, 3, 1, 2)
    scaled = functional.interpolate(square, size=(4, 4), mode="bicubic", align_corners=False)
    grown = torch.cat([own[:, :prefix], scaled.permute(0, 2, 3, 1).reshape(1, 16, width)], dim=1)
    if layout == "open_clip":
        large.positional_embedding = nn.Parameter(grown[0])
        large.grid_size = (4, 4)
    else:
        large.trunk.pos_embed = nn.Parameter(grown)
        large.trunk.patch_embed.grid_size = (4, 4)
        large.trunk.patch_embed.strict_img_size = False
    expected = seen_after_block(large, 0, images(large_side))[:, prefix:]
    found = read_tokens(small, images(large_side), TowerReading(1, False, large_side))
    assert found.shape == (2, 16, width)
    torch.testing.assert_close(found, expected)


def test_rotary_positions_follow_another_image_size() -> None:
    visual = tower("timm_split")
    shape = {"depth": 2, "embed_dim": 24, "num_heads": 3, "patch_size": 14, "pretrained": False}
    large = timm.create_model(
        "eva02_base_patch16_clip_224", img_size=2 * SIDE, num_classes=16, **shape
    ).eval()
    state = {k: v for k, v in visual.trunk.state_dict().items() if k != "pos_embed"}
    assert large.load_state_dict(state, strict=False).missing_keys == ["pos_embed"]
    own = visual.trunk.pos_embed
    square = own[:, 1:].reshape(1, 2, 2, 24).permute(0, 3, 1, 2)
    scaled = functional.interpolate(square, size=(4, 4), mode="bicubic", align_corners=False)
    large.pos_embed.data = torch.cat(
        [own[:, :1], scaled.permute(0, 2, 3, 1).reshape(1, 16, 24)], dim=1
    )
    with torch.no_grad():
        (expected,) = large.forward_intermediates(
            images(56), indices=[0], output_fmt="NLC", intermediates_only=True
        )
    found = read_tokens(visual, images(56), TowerReading(1, False, 56))
    torch.testing.assert_close(found, expected)
    again = read_tokens(visual, images(), TowerReading(1, False, SIDE))
    torch.testing.assert_close(again, seen_after_block(visual, 0, images())[:, 1:])


def test_eva_giant_at_448_has_1024_tokens_of_1408_before_its_last_block() -> None:
    with torch.device("meta"):
        model = open_clip.create_model("EVA01-g-14", device="meta")
    visual = model.get_submodule("visual").eval()
    pixels = torch.empty(1, 3, 448, 448, device="meta")
    reading = TowerReading(39, False, 448)
    assert read_tokens(visual, pixels, reading).shape == (1, 1024, 1408)
    assert (patch_count(visual, 448), tower_width(visual)) == (1024, 1408)
    late = unreached(reading, view_tower(model), [name for name, _ in model.named_parameters()])
    assert not [name for name in late if name.startswith("visual.trunk.blocks.38.")]
    assert [name for name in late if name.startswith("visual.trunk.blocks.39.")]


@pytest.mark.parametrize("blocks", [0, 3, -1])
def test_blocks_that_a_tower_has_not_are_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match=r"blocks 1\.\.2"):
        read_tokens(tower("open_clip"), images(), TowerReading(blocks, False, SIDE))


def test_a_class_token_that_a_tower_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="class token"):
        read_tokens(tower("siglip"), images(), TowerReading(1, True, SIDE))


def test_a_tower_without_blocks_is_refused() -> None:
    with pytest.raises(UnknownTowerLayout, match="blocks"):
        read_tokens(nn.Conv2d(3, 3, 1), images(), TowerReading(1, False, SIDE))


def test_reading_leaves_the_tower_as_it_was() -> None:
    encoder = tiny_encoder("timm_split")
    visual = encoder.model.get_submodule("visual")
    before = encoder.embed_images(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8))
    read_tokens(visual, images(56), TowerReading(2, True, 56))
    after = encoder.embed_images(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8))
    assert torch.equal(before, after)
