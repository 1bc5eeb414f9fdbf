"""open_clip's tower and transformers' are one function of the same numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from chaos.tiny_encoder import MODEL, draw_weights
from encoder.clip import Encoder, adopt_model, load_encoder
from encoder.deltas import Delta, Dense, LowRank, Sparse
from encoder.errors import DeltaShape, UnknownParameter
from encoder.vlm.errors import NamesUnmappable
from encoder.vlm.hf_deltas import VISION_MODEL, VISUAL_PROJECTION, hf_deltas
from encoder.vlm.hf_names import hf_names, hf_state, hf_tower
from encoder.vlm.reading import TowerReading, prefix_tokens, read_tokens
from tests.support.tiny_encoder import tiny_encoder

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))
BLOCK = "visual.transformer.resblocks.0."
needs_lab = pytest.mark.skipif(
    not (LAB / "base" / "open_clip_config.json").is_file(),
    reason=f"the lab is not at {LAB} (set EMEND_LAB)",
)


def random_vit(*, quick_gelu: bool, ln_pre: bool, seed: int = 0) -> Encoder:
    """Three blocks of width 48, and norms that are not the identity."""
    vision = {**MODEL["vision_cfg"], "layers": 3, "width": 48, "no_ln_pre": not ln_pre}
    model = CLIP(16, vision, MODEL["text_cfg"], quick_gelu=quick_gelu)
    draw_weights(model, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "ln_" in name:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    size = {"size": 28, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    open_clip.model.set_model_preprocess_cfg(model, size)
    return adopt_model(model, SimpleTokenizer(context_length=32), name="random")


ENCODERS = [
    pytest.param(lambda: random_vit(quick_gelu=True, ln_pre=True), id="quick_gelu"),
    pytest.param(lambda: random_vit(quick_gelu=False, ln_pre=True), id="gelu"),
    pytest.param(lambda: random_vit(quick_gelu=True, ln_pre=False), id="quick_gelu-no-ln_pre"),
    pytest.param(lambda: random_vit(quick_gelu=False, ln_pre=False), id="gelu-no-ln_pre"),
    pytest.param(lambda: load_encoder("bundled"), id="bundled"),
    pytest.param(lambda: load_encoder(str(LAB / "base")), id="lab", marks=needs_lab),
]


def every_form(encoder: Encoder, *, seed: int = 0) -> dict[str, Delta]:
    """Deltas of every form on every kind of weight that they can be on, in three blocks."""
    generator = torch.Generator().manual_seed(seed)
    deltas: dict[str, Delta] = {}
    for name, weight in encoder.model.named_parameters():
        if name.startswith("visual."):
            kind = int(torch.randint(4 if weight.ndim == 2 else 2, (), generator=generator))
            deltas[name] = random_delta(weight, ("dense", "sparse", "rows", "all")[kind], generator)
    return deltas


def random_delta(weight: Tensor, form: str, generator: torch.Generator) -> Delta:
    size = float(weight.std()) * 0.2 if weight.numel() > 1 else 0.1
    if form == "dense":
        return Dense(torch.randn(weight.shape, generator=generator) * size)
    if form == "sparse":
        mask = torch.rand(weight.shape, generator=generator) > 0.8
        return Sparse(mask, torch.randn(int(mask.sum()), generator=generator) * size)
    height, inputs = weight.shape
    rows = None
    if form == "rows":
        rows = (torch.rand(height, generator=generator) > 0.7).nonzero().flatten()
        height = len(rows)
    down = torch.randn(3, inputs, generator=generator)
    return LowRank(down, torch.randn(height, 3, generator=generator), rows, size / 2)


def merged(state: Mapping[str, Tensor], deltas: Mapping[str, Delta]) -> dict[str, Tensor]:
    return {name: deltas[name].apply(w) if name in deltas else w for name, w in state.items()}


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(torch.int32)


@pytest.mark.parametrize("make", ENCODERS)
def test_hidden_states_agree_with_and_without_an_adapter(make: object) -> None:
    assert callable(make)
    base: Encoder = make()
    generator = torch.Generator().manual_seed(2)
    side = base.preprocessing.image_size
    images = torch.randn(2, 3, side, side, generator=generator)
    depth = len(base.tower.blocks)
    assert prefix_tokens(base.model.get_submodule("visual")) == 1
    former = None
    for encoder in (base, base.merged_deltas(every_form(base), label="test")):
        visual = encoder.model.get_submodule("visual")
        with torch.no_grad():
            theirs = hf_tower(encoder)(images, output_hidden_states=True).hidden_states
            for blocks in (1, depth - 1, depth):
                ours = read_tokens(visual, images, TowerReading(blocks, True, side))
                torch.testing.assert_close(ours, theirs[blocks], atol=1e-4, rtol=0)
        assert former is None or not torch.allclose(ours, former, atol=1e-2)
        former = ours


@pytest.mark.parametrize("make", ENCODERS)
def test_merging_mapped_deltas_is_mapping_merged_weights_bit_by_bit(make: object) -> None:
    assert callable(make)
    base: Encoder = make()
    for seed in range(3):
        deltas = every_form(base, seed=seed)
        version = base.merged_deltas(deltas, label="test")
        mapped = hf_deltas(base, deltas)
        with_prefix = {VISION_MODEL + name: weight for name, weight in hf_state(base).items()}
        expected = {VISION_MODEL + name: weight for name, weight in hf_state(version).items()}
        with_prefix[VISUAL_PROJECTION] = base.model.get_parameter("visual.proj").T
        expected[VISUAL_PROJECTION] = version.model.get_parameter("visual.proj").T
        found = merged(with_prefix, mapped)
        assert mapped.keys() <= found.keys()
        for name, weight in expected.items():
            assert torch.equal(bits(found[name]), bits(weight)), name


@pytest.mark.parametrize("heads", [(0,), (1, 3)])
def test_low_rank_on_heads_stays_low_rank_on_the_same_heads_of_q_k_and_v(
    heads: tuple[int, ...],
) -> None:
    base = tiny_encoder()
    (rows,) = base.tower.blocks[0].head_rows(heads).values()
    delta = LowRank(torch.randn(2, 32), torch.randn(len(rows), 2), rows, 0.5)
    mapped = hf_deltas(base, {BLOCK + "attn.in_proj_weight": delta})
    expected = [head * 8 + row for head in heads for row in range(8)]
    assert len(mapped) == 3
    for name, part in mapped.items():
        assert name.startswith("vision_model.encoder.layers.0.self_attn.")
        assert isinstance(part, LowRank)
        assert part.rows is not None
        assert part.rows.tolist() == expected
        assert part.down is delta.down


def test_parts_that_do_not_move_have_no_delta() -> None:
    base = tiny_encoder()
    rows = torch.arange(32, 40)  # of k
    delta = LowRank(torch.randn(2, 32), torch.randn(8, 2), rows)
    (name,) = hf_deltas(base, {BLOCK + "attn.in_proj_weight": delta})
    assert name == "vision_model.encoder.layers.0.self_attn.k_proj.weight"
    mask = torch.zeros(96, 32, dtype=torch.bool)
    mask[95, 3] = True
    sparse = Sparse(mask, torch.ones(1))
    (name,) = hf_deltas(base, {BLOCK + "attn.in_proj_weight": sparse})
    assert name == "vision_model.encoder.layers.0.self_attn.v_proj.weight"


def test_the_mapped_state_holds_views() -> None:
    base = tiny_encoder()
    owned = {p.untyped_storage().data_ptr() for p in base.model.parameters()}
    state = hf_state(base)
    assert len(state) == 7 + 2 * 16
    assert {weight.untyped_storage().data_ptr() for weight in state.values()} <= owned
    tower = hf_tower(base)
    assert {p.untyped_storage().data_ptr() for p in tower.parameters()} <= owned


@pytest.mark.parametrize("layout", ["timm_fused", "timm_split", "siglip"])
def test_towers_of_other_layouts_are_refused(layout: str) -> None:
    encoder = tiny_encoder(layout)
    for call in (hf_state, hf_tower, lambda base: hf_deltas(base, {})):
        with pytest.raises(NamesUnmappable, match=r"transformers' CLIP"):
            call(encoder)


@pytest.mark.parametrize("name", ["token_embedding.weight", "logit_scale", "visual.proj"])
def test_names_without_a_counterpart_are_told(name: str) -> None:
    with pytest.raises(NamesUnmappable) as caught:
        hf_names(name)
    assert name in str(caught.value)


def test_deltas_that_do_not_fit_are_refused_by_name() -> None:
    base = tiny_encoder()
    with pytest.raises(UnknownParameter, match=r"visual\.nothing"):
        hf_deltas(base, {"visual.nothing": Dense(torch.zeros(1))})
    with pytest.raises(DeltaShape, match=r"c_fc\.bias"):
        hf_deltas(base, {BLOCK + "mlp.c_fc.bias": Dense(torch.zeros(1))})
    text = Dense(torch.zeros_like(base.model.get_parameter("positional_embedding")))
    with pytest.raises(NamesUnmappable, match="positional_embedding"):
        hf_deltas(base, {"positional_embedding": text})
