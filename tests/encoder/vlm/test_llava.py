"""LLaVA folders of every layout that was ever written, and folders that are none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoder.clip import Encoder
from encoder.tower import view_tower
from encoder.vlm.decoder import expected_shapes
from encoder.vlm.errors import TowerForeign, VlmInvalid, VlmMissing
from encoder.vlm.hf_names import hf_state
from encoder.vlm.llava import build_parts, llava_reading, sort_names
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel
from tests.support.tiny_encoder import random_pixels, tiny_encoder
from tests.support.tiny_vlm import full_llava_folder, tiny_vlm_folder

State = dict[str, Tensor]
Facts = dict[str, Any]

# Published with LLaVA-1.5-7B; what it leaves out has LlamaConfig's defaults.
LLAVA_7B: Facts = {
    "model_type": "llava",
    "ignore_index": -100,
    "image_token_index": 32000,
    "projector_hidden_act": "gelu",
    "text_config": {
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "rms_norm_eps": 1e-05,
        "torch_dtype": "float16",
        "vocab_size": 32064,
    },
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_vlm_folder(tmp_path / "tiny", tiny_encoder())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_llava_folder(tmp_path_factory.mktemp("full") / "full", tiny_encoder())


def load(folder: Path, encoder: Encoder | None = None) -> VisionLanguageModel:
    return load_vlm(str(folder), encoder or tiny_encoder())


def rewrite(source: Path, target: Path, change: Callable[[State], State]) -> Path:
    """The same folder, its weights changed."""
    target.mkdir(exist_ok=True)
    for file in source.glob("*.json"):
        (target / file.name).write_bytes(file.read_bytes())
    save_file(change(load_file(source / "model.safetensors")), target / "model.safetensors")
    return target


def configure(folder: Path, **facts: Any) -> Path:
    """The same folder, its configuration changed; None takes an entry away."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text(encoding="utf-8")), **facts}
    kept = {key: value for key, value in config.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")
    return folder


def weights_of(vlm: VisionLanguageModel) -> State:
    both = {**vlm.connector.state_dict(), **vlm.decoder.state_dict()}
    return {name: weight.clone() for name, weight in both.items()}


def of_the_hub(name: str) -> str:
    return re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name)


def of_transformers_5(name: str) -> str:
    name = name.replace("language_model.lm_head", "lm_head")
    name = name.replace("language_model.model.", "language_model.")
    return name if name.startswith("lm_head") else f"model.{name}"


@pytest.mark.parametrize("rename", [of_the_hub, of_transformers_5])
def test_every_layout_of_names_is_read(
    full: Path, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    expected = weights_of(load(full))
    other = rewrite(full, tmp_path / "other", lambda s: {rename(n): w for n, w in s.items()})
    assert set(load_file(other / "model.safetensors")) != set(load_file(full / "model.safetensors"))
    found = weights_of(load(other))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_files_in_pieces_are_read_by_their_index(full: Path, tmp_path: Path) -> None:
    pieces = rewrite(full, tmp_path / "pieces", lambda state: state)
    state = load_file(pieces / "model.safetensors")
    (pieces / "model.safetensors").unlink()
    names = sorted(state)
    places = {
        name: f"model-{1 + index % 2:05}-of-00002.safetensors" for index, name in enumerate(names)
    }
    for file in set(places.values()):
        save_file({n: state[n] for n in names if places[n] == file}, pieces / file)
    save_file({"stray": torch.zeros(1)}, pieces / "other.safetensors")  # the index has not
    index = pieces / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    expected, found = weights_of(load(full)), weights_of(load(pieces))
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    (pieces / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(VlmInvalid, match=r"model-00002-of-00002\.safetensors"):
        load(pieces)


def test_the_tower_in_the_folder_is_dropped(full: Path) -> None:
    vlm = load(full)
    names = [*vlm.decoder.state_dict(), *vlm.connector.state_dict()]
    assert not [name for name in names if "vision" in name]
    assert vlm.parameters_count < sum(
        w.numel() for w in load_file(full / "model.safetensors").values()
    )


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


@pytest.mark.parametrize("fact", [{"hidden_act": "quick_gelu"}, {"num_attention_heads": 2}])
def test_a_tower_that_computes_otherwise_with_the_same_weights_is_refused(
    full: Path, tmp_path: Path, fact: Facts
) -> None:
    other = rewrite(full, tmp_path / "other", lambda state: state)
    vision = json.loads((other / "config.json").read_text(encoding="utf-8"))["vision_config"]
    configure(other, vision_config={**vision, **fact, "_name_or_path": "their-vit"})
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


def drop(end: str) -> Callable[[State], State]:
    return lambda state: {name: w for name, w in state.items() if not name.endswith(end)}


def put(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: {**state, name: torch.zeros(*shape)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop("linear_2.bias"), r"lacks linear_2\.bias"),
        (drop("layers.1.mlp.up_proj.weight"), r"lacks model\.layers\.1\.mlp\.up_proj\.weight"),
        (drop("weight"), r"lacks linear_1\.weight, linear_2\.weight$"),
        (lambda _: {}, r"lacks linear_1\.bias"),
        (put("multi_modal_projector.linear_3.weight", 2), r"unknown weights linear_3\.weight"),
        (put("language_model.model.layers.7.x", 2), r"unknown weights model\.layers\.7\.x"),
        (put("image_newline", 2), "unknown weights image_newline"),
        (put("multi_modal_projector.linear_1.bias", 7), r"linear_1\.bias has shape \[7\]"),
        (put("language_model.lm_head.weight", 9, 32), r"lm_head\.weight has shape \[9, 32\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    folder: Path, tmp_path: Path, change: Callable[[State], State], told: str
) -> None:
    with pytest.raises(VlmInvalid, match=told):
        load(rewrite(folder, tmp_path / "changed", change))


def test_buffers_of_old_files_are_passed_over(folder: Path, tmp_path: Path) -> None:
    name = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    assert load(rewrite(folder, tmp_path / "old", put(name, 4))).family == "llava"


def test_a_tower_that_lacks_a_weight_is_refused_by_name(full: Path, tmp_path: Path) -> None:
    part = rewrite(full, tmp_path / "part", drop("layers.0.mlp.fc1.bias"))
    with pytest.raises(VlmInvalid, match=r"tower lacks encoder\.layers\.0\.mlp\.fc1\.bias"):
        load(part)
    unread = rewrite(full, tmp_path / "unread", drop("post_layernorm.bias"))
    assert load(unread).family == "llava"


def test_tied_words_are_stored_once(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tied = {**config["text_config"], "tie_word_embeddings": True}
    for change in (drop("lm_head.weight"), lambda state: state):
        other = rewrite(folder, tmp_path / "tied", change)
        vlm = load(configure(other, text_config=tied))
        decoder: Any = vlm.decoder
        assert decoder.lm_head.weight is decoder.model.embed_tokens.weight
        assert not decoder.lm_head.weight.is_meta


@pytest.mark.parametrize("name", ["nowhere", "bundled-not"])
def test_a_folder_that_is_not_there_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(VlmMissing, match=name):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", "{", "not JSON"),
        ("config.json", "[]", "not a JSON object"),
        ("config.json", '{"model_type": "llava", "emend": []}', "`emend` is not a JSON object"),
        ("config.json", '{"model_type": "llava", "text_config": 1}', "`text_config` is not"),
        ("config.json", '{"model_type": "clip"}', "model_type 'clip'"),
        ("config.json", "{}", "model_type None"),
        ("model.safetensors", None, "no safetensors file"),
        ("model.safetensors", "pickle", "model.safetensors"),
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", "{", "tokenizer.json"),
        ("tokenizer.json", "{}", "tokenizer.json"),
        ("tokenizer_config.json", None, "no tokenizer_config.json"),
        ("tokenizer_config.json", "[1]", "tokenizer_config.json"),
        ("tokenizer_config.json", "{}", "names no eos_token"),
        ("tokenizer_config.json", '{"eos_token": 7}', "tokenizer_config.json"),
    ],
)
def test_damaged_folders_are_refused(
    folder: Path, file: str, content: str | None, told: str
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(VlmInvalid, match=re.escape(told)):
        load(folder)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"vision_feature_layer": [-2, -5]}, "several layers"),
        ({"vision_feature_layer": 3}, "layer 3 is none of a tower of 2 blocks"),
        ({"vision_feature_layer": -3}, "layer -3 is none"),
        ({"vision_feature_select_strategy": "some"}, "'some'"),
        ({"projector_hidden_act": "nothing"}, "unknown activation 'nothing'"),
        ({"text_config": {"model_type": "mistral"}}, "'mistral'"),
        ({"text_config": {"model_type": "llama", "hidden_size": "wide"}}, "configuration"),
        ({"text_config": {"model_type": "llama", "hidden_size": -32}}, "configuration"),
        ({"text_config": {"model_type": "llama", "num_attention_heads": 0}}, "configuration"),
    ],
)
def test_configurations_that_cannot_be_built_are_refused(
    folder: Path, facts: Facts, told: str
) -> None:
    with pytest.raises(VlmInvalid, match=told):
        load(configure(folder, **facts))


@pytest.mark.parametrize(
    ("facts", "blocks", "tokens"),
    [
        ({}, 1, 4),
        ({"vision_feature_layer": -1}, 2, 4),
        ({"vision_feature_layer": 1}, 1, 4),
        ({"vision_feature_select_strategy": "full"}, 1, 5),
    ],
)
def test_the_configuration_says_where_the_tower_is_read(
    folder: Path, facts: Facts, blocks: int, tokens: int
) -> None:
    vlm = load(configure(folder, **facts))
    assert vlm.reading.blocks == blocks
    assert vlm.image_tokens(tiny_encoder(), random_pixels(1)).shape[1] == tokens


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_loads_in_half_precision(folder: Path, precision: Any) -> None:
    encoder = tiny_encoder()
    vlm = load_vlm(str(folder), encoder, precision=precision)
    assert {p.dtype for p in vlm.decoder.parameters()} == {vlm.dtype}
    prompt = vlm.question("What is this?", vlm.image_tokens(encoder, random_pixels(1))[0])
    assert prompt.embeddings.dtype == vlm.dtype != torch.float32
    logits = vlm.decoder(inputs_embeds=prompt.embeddings[None]).logits
    whole = load(folder)
    exact = whole.question("What is this?", whole.image_tokens(encoder, random_pixels(1))[0])
    expected = whole.decoder(inputs_embeds=exact.embeddings[None]).logits
    torch.testing.assert_close(logits.float(), expected, atol=0.1, rtol=0.1)


def test_nothing_can_be_trained_by_accident(folder: Path) -> None:
    vlm = load(folder)
    for module in (vlm.connector, vlm.decoder):
        assert not module.training
        assert not [name for name, p in module.named_parameters() if p.requires_grad]


def meta_encoder(name: str) -> Encoder:
    """A real architecture without memory, in place of the tiny one."""
    with torch.device("meta"):
        model: nn.Module = open_clip.create_model(name, device="meta")
    size = replace(tiny_encoder().preprocessing, image_size=336)
    tower = view_tower(model)
    return replace(tiny_encoder(), model=model, tower=tower, name=name, preprocessing=size)


@pytest.mark.parametrize("rename", [of_the_hub, of_transformers_5, lambda name: name])
def test_llava_7b_fits_name_by_name_and_shape_by_shape(rename: Callable[[str], str]) -> None:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    encoder = meta_encoder("ViT-L-14-336-quickgelu")
    config = {key: value for key, value in LLAVA_7B.items() if key != "model_type"}
    with torch.device("meta"):
        whole = LlavaForConditionalGeneration(LlavaConfig(**config))
    stored: dict[str, tuple[int, ...]] = {}
    for name, weight in whole.state_dict().items():
        own = name.replace("model.language_model.", "language_model.model.")
        own = own.replace("model.vision_tower.", "vision_tower.")
        own = own.replace("model.multi_modal", "multi_modal")
        own = own.replace("lm_head", "language_model.lm_head")
        stored[rename(own)] = tuple(weight.shape)
    parts = sort_names(stored, "test")
    assert sum(len(part) for part in parts.values()) == len(stored) == 686
    connector, decoder = build_parts(LLAVA_7B, encoder, "test")
    tower = {name: tuple(weight.shape) for name, weight in hf_state(encoder).items()}
    modules = {"connector": expected_shapes(connector), "decoder": expected_shapes(decoder)}
    for part, expected in {"tower": tower, **modules}.items():
        assert {own: stored[name] for own, name in parts[part].items()} == expected
    reading = llava_reading(LLAVA_7B, encoder, "test")
    assert (reading.blocks, reading.class_token, reading.image_size) == (23, False, 336)
    assert sum(p.numel() for p in decoder.parameters()) == 6_738_939_904
