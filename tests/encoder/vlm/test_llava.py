"""LLaVA folders of every layout that was ever written."""

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
from torch import nn

from encoder.clip import Encoder
from encoder.tower import view_tower
from encoder.vlm.decoder import expected_shapes
from encoder.vlm.errors import VlmInvalid
from encoder.vlm.hf_names import hf_config, hf_state
from encoder.vlm.llava import build_parts, llava_reading, sort_names
from encoder.vlm.load import load_vlm
from tests.support.tiny_encoder import random_pixels, tiny_encoder
from tests.support.vlm_folders import (
    Facts,
    configure,
    drop,
    load,
    rewrite,
    weights_of,
)

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


def test_tied_words_are_stored_once(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tied = {**config["text_config"], "tie_word_embeddings": True}
    for change in (drop("lm_head.weight"), lambda state: state):
        other = rewrite(folder, tmp_path / "tied", change)
        vlm = load(configure(other, text_config=tied))
        decoder: Any = vlm.decoder
        assert decoder.lm_head.weight is decoder.model.embed_tokens.weight
        assert not decoder.lm_head.weight.is_meta


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
    ours, published = hf_config(encoder), LLAVA_7B["vision_config"]
    assert {key: published[key] for key in ours.keys() & published.keys()}.items() <= ours.items()
    assert ours["hidden_act"] == "quick_gelu"
    reading = llava_reading(LLAVA_7B, encoder, "test")
    assert (reading.blocks, reading.class_token, reading.image_size) == (23, False, 336)
    assert sum(p.numel() for p in decoder.parameters()) == 6_738_939_904
