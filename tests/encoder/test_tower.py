from __future__ import annotations

import open_clip
import pytest
import torch
from torch import nn

from encoder.errors import UnknownTowerLayout
from encoder.tower import Block, view_text_tower, view_tower
from tests.support.tiny_encoder import LAYOUTS, SIDE, tiny_model


def meta_model(name: str) -> nn.Module:
    """The real architecture, without memory."""
    with torch.device("meta"):
        model: nn.Module = open_clip.create_model(name, device="meta")
    return model


@pytest.mark.parametrize(
    ("name", "blocks", "heads", "head_width", "attention", "fc1", "projection"),
    [
        ("ViT-L-14", 24, 16, 64, ("attn.in_proj_weight",), ("mlp.c_fc.weight",), "visual.proj"),
        (
            "EVA01-g-14",
            40,
            16,
            88,
            ("attn.qkv.weight",),
            ("mlp.fc1.weight",),
            "visual.trunk.head.weight",
        ),
        (
            "EVA02-B-16",
            12,
            12,
            64,
            ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"),
            ("mlp.fc1_g.weight", "mlp.fc1_x.weight"),
            "visual.trunk.head.weight",
        ),
        (
            "EVA02-L-14",
            24,
            16,
            64,
            ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"),
            ("mlp.fc1_g.weight", "mlp.fc1_x.weight"),
            "visual.trunk.head.weight",
        ),
        (
            "EVA02-E-14",
            64,
            16,
            112,
            ("attn.qkv.weight",),
            ("mlp.fc1.weight",),
            "visual.trunk.head.weight",
        ),
        ("ViT-B-16-SigLIP", 12, 12, 64, ("attn.qkv.weight",), ("mlp.fc1.weight",), None),
        (
            "coca_ViT-B-32",
            12,
            12,
            64,
            ("attn.in_proj_weight",),
            ("mlp.c_fc.weight",),
            "visual.proj",
        ),
    ],
)
def test_real_architectures_are_viewed(
    name: str,
    blocks: int,
    heads: int,
    head_width: int,
    attention: tuple[str, ...],
    fc1: tuple[str, ...],
    projection: str | None,
) -> None:
    model = meta_model(name)
    tower = view_tower(model)
    last = tower.blocks[-1]
    path = last.attention[0].removesuffix(attention[0])
    assert (len(tower.blocks), last.index) == (blocks, blocks - 1)
    assert (last.heads, last.head_width) == (heads, head_width)
    assert last.attention == tuple(path + name for name in attention)
    assert last.fc1 == tuple(path + name for name in fc1)
    assert tower.projection == projection
    shapes = {name: p.shape for name, p in model.named_parameters()}
    for block in tower.blocks:
        for parameter in (*block.attention, *block.fc1, *block.attention_biases, *block.fc1_biases):
            assert parameter in shapes
        rows = sum(len(r) for r in block.head_rows(range(heads)).values())
        assert rows == 3 * heads * head_width


def test_two_heads_of_vit_l_14_are_384_of_3072_rows() -> None:
    tower = view_tower(meta_model("ViT-L-14"))
    (rows,) = tower.blocks[0].head_rows([3, 1]).values()
    assert len(rows) == 384
    assert rows[:2].tolist() == [64, 65]
    assert rows[128].item() == 1024 + 64
    assert bool((rows[1:] > rows[:-1]).all())


def test_five_percent_of_fc1_in_vit_l_14_336_is_the_papers_count() -> None:
    model = meta_model("ViT-L-14-336")
    shapes = {name: p.shape for name, p in model.named_parameters()}
    names = [name for block in view_tower(model).blocks for name in block.fc1]
    assert sum(int(0.05 * shapes[name].numel()) for name in names) == 5_033_160


@pytest.mark.parametrize("name", ["RN50", "convnext_base", "ViTamin-B"])
def test_towers_of_another_kind_are_refused_by_name(name: str) -> None:
    model = meta_model(name)
    with pytest.raises(UnknownTowerLayout) as caught:
        view_tower(model)
    assert type(model.visual).__name__ in caught.value.layout
    assert caught.value.layout in str(caught.value)


def test_a_model_without_a_vision_tower_is_refused() -> None:
    with pytest.raises(UnknownTowerLayout):
        view_tower(nn.Linear(2, 2))


def attended(model: nn.Module, layout: str) -> torch.Tensor:
    """What the first block's heads yield before they are mixed, [B, N, H * d]."""
    seen: list[torch.Tensor] = []
    if layout == "open_clip":  # torch's attention mixes inside: let it mix by the identity
        attention = model.get_submodule("visual.transformer.resblocks.0.attn")
        nn.init.eye_(attention.out_proj.weight)
        attention.register_forward_hook(lambda *call: seen.append(call[-1][0]))
    else:
        attention = model.get_submodule("visual.trunk.blocks.0.attn")
        attention.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.visual(torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))
    return seen[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_a_head_are_what_that_head_computes_with(layout: str) -> None:
    """Without its rows a head yields nothing, and the other heads yield what they did."""
    model = tiny_model(layout).eval().requires_grad_(requires_grad=False)
    block = view_tower(model).blocks[0]
    parameters = dict(model.named_parameters())
    biases = [*block.attention_biases, "visual.transformer.resblocks.0.attn.out_proj.bias"]
    for name in biases:
        if name in parameters:
            parameters[name].zero_()
    heads = (block.heads, block.head_width)
    before = attended(model, layout).unflatten(-1, heads)
    for name, rows in block.head_rows([1]).items():
        parameters[name][rows] = 0
    after = attended(model, layout).unflatten(-1, heads)
    others = [head for head in range(block.heads) if head != 1]
    assert bool((before[:, :, 1] != 0).any())
    assert bool((after[:, :, 1] == 0).all())
    assert torch.equal(after[:, :, others], before[:, :, others])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_head_scores_are_sums_of_squares_of_the_heads_rows(layout: str) -> None:
    model = tiny_model(layout)
    for block in view_tower(model).blocks:
        gradients = {
            name: torch.randn_like(p)
            for name, p in model.named_parameters()
            if name in block.attention
        }
        scores = block.head_scores(gradients)
        expected = [
            sum(gradients[n][rows].square().sum() for n, rows in block.head_rows([head]).items())
            for head in range(block.heads)
        ]
        torch.testing.assert_close(scores, torch.stack(expected))


def test_a_head_that_does_not_exist_is_refused() -> None:
    block = Block(0, 2, 4, ("w",), (), ("f",), ())
    with pytest.raises(IndexError, match=r"heads 0\.\.1"):
        block.head_rows([2])


@pytest.mark.parametrize(
    ("name", "blocks", "heads", "prefix", "projection"),
    [
        ("ViT-L-14", 12, 12, "", "text_projection"),
        ("ViT-B-16-SigLIP", 12, 12, "text.", "text.text_projection.weight"),
        ("EVA02-B-16", 12, 8, "text.", "text.text_projection"),
        ("coca_ViT-B-32", 12, 8, "text.", "text.text_projection"),
    ],
)
def test_text_towers_of_real_architectures_are_viewed(
    name: str, blocks: int, heads: int, prefix: str, projection: str
) -> None:
    model = meta_model(name)
    tower = view_text_tower(model)
    first = tower.blocks[0]
    path = f"{prefix}transformer.resblocks.0."
    assert (len(tower.blocks), first.heads, tower.projection) == (blocks, heads, projection)
    assert first.attention == (f"{path}attn.in_proj_weight",)
    assert first.fc1 == (f"{path}mlp.c_fc.weight",)
    assert {f"{prefix}token_embedding.weight", f"{prefix}positional_embedding"} <= set(
        tower.weights
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_towers_are_the_model_without_what_scales_and_shifts_logits(layout: str) -> None:
    model = tiny_model(layout)
    vision, text = view_tower(model).weights, view_text_tower(model).weights
    rest = {name for name, _ in model.named_parameters()} - {*vision, *text}
    assert not set(vision) & set(text)
    assert rest == ({"logit_scale", "logit_bias"} if layout == "siglip" else {"logit_scale"})
    assert all(name.startswith("visual.") for name in vision)


def test_a_text_tower_of_another_kind_is_refused_by_name() -> None:
    model = tiny_model("siglip")
    model.text = nn.Linear(2, 2)
    with pytest.raises(UnknownTowerLayout, match="text tower 'Linear'") as caught:
        view_text_tower(model)
    assert (caught.value.tower, caught.value.layout) == ("text", "Linear")
    with pytest.raises(UnknownTowerLayout, match="text tower"):
        view_text_tower(nn.Linear(2, 2))
