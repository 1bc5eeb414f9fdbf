"""Is the served encoder the one that a model was made for? Else it is refused with both names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encoder.vlm.errors import TowerForeign, VlmInvalid
from tests.support.tiny_encoder import tiny_encoder
from tests.support.vlm_folders import Facts, State, configure, drop, load, rewrite


def test_a_tower_in_half_precision_is_the_served_one(full: Path, tmp_path: Path) -> None:
    half = rewrite(full, tmp_path / "half", lambda s: {n: w.half() for n, w in s.items()})
    assert load(half).family == "llava"
    rounded = rewrite(full, tmp_path / "bf16", lambda s: {n: w.bfloat16() for n, w in s.items()})
    assert load(rounded).family == "llava"


@pytest.mark.parametrize(
    ("name", "value"), [("encoder.layers.1.mlp.fc2.weight", 1.01), ("post_layernorm.weight", 1.5)]
)
def test_a_tower_of_other_values_is_refused_with_both_names(
    full: Path, tmp_path: Path, name: str, value: float
) -> None:
    def change(state: State) -> State:
        return {n: w * value if n == f"vision_tower.{name}" else w for n, w in state.items()}

    foreign = rewrite(full, tmp_path / "foreign", change)
    with pytest.raises(TowerForeign) as caught:
        load(foreign)
    assert name in caught.value.reason
    assert "width 32" in caught.value.expected
    assert caught.value.found == "tiny-open_clip"


@pytest.mark.parametrize(
    ("layout", "seed"), [("open_clip", 1), ("timm_fused", 0), ("timm_split", 0), ("siglip", 0)]
)
def test_another_encoder_is_refused_with_both_names(full: Path, layout: str, seed: int) -> None:
    with pytest.raises(TowerForeign) as caught:
        load(full, tiny_encoder(layout, seed=seed))
    assert "CLIP ViT of 2 blocks, width 32, in full" in str(caught.value)
    assert f"tiny-{layout}" in str(caught.value)


@pytest.mark.parametrize(
    "fact",
    [
        {"hidden_act": "quick_gelu"},
        {"num_attention_heads": 2},
        {"layer_norm_eps": 1e-6},
        {"hidden_act": None},  # left out, as LLaVA-1.5's own does: it means QuickGELU
    ],
)
def test_a_tower_that_computes_otherwise_with_the_same_weights_is_refused(
    full: Path, tmp_path: Path, fact: Facts
) -> None:
    other = rewrite(full, tmp_path / "other", lambda state: state)
    vision = json.loads((other / "config.json").read_text(encoding="utf-8"))["vision_config"]
    changed = {**vision, **fact, "_name_or_path": "their-vit"}
    configure(other, vision_config={key: v for key, v in changed.items() if v is not None})
    with pytest.raises(TowerForeign, match=r"'their-vit'.*'tiny-open_clip'") as caught:
        load(other)
    assert next(iter(fact)) in caught.value.reason


def test_without_a_tower_the_base_digest_decides(folder: Path) -> None:
    other = tiny_encoder(seed=1)
    with pytest.raises(TowerForeign, match=other.base_digest):
        load(folder, other)
    both = [tiny_encoder().base_digest, other.base_digest]  # as in two precisions
    configure(folder, emend={"tower": {"name": "either", "base_digest": both}})
    assert load(folder, other).name == load(folder).name == "tiny"


@pytest.mark.parametrize(
    "emend", [None, {}, {"tower": {"name": "x"}}, {"tower": {"name": "x", "base_digest": 7}}]
)
def test_a_folder_that_says_nothing_of_its_tower_is_refused(folder: Path, emend: object) -> None:
    configure(folder, emend=emend)
    with pytest.raises(VlmInvalid, match=r"emend\.tower"):
        load(folder)


def test_a_tower_that_lacks_a_weight_is_refused_by_name(full: Path, tmp_path: Path) -> None:
    part = rewrite(full, tmp_path / "part", drop("layers.0.mlp.fc1.bias"))
    with pytest.raises(VlmInvalid, match=r"tower lacks encoder\.layers\.0\.mlp\.fc1\.bias"):
        load(part)
    unread = rewrite(full, tmp_path / "unread", drop("post_layernorm.bias"))
    assert load(unread).family == "llava"
