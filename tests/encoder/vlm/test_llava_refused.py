"""Folders that are no LLaVA, or not a whole one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from encoder.vlm.errors import VlmInvalid, VlmLibraryMissing, VlmMissing
from tests.support.vlm_folders import Facts, State, configure, drop, load, put, rewrite


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
        ("config.json", "[" * 100_000, "not JSON"),
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
        ("tokenizer_config.json", '{"eos_token": "<end>"}', "'eos_token' has the id 320, its"),
        ("tokenizer_config.json", '{"eos_token": "</s>", "bos_token": "<b>"}', "'bos_token' has"),
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
        ({"text_config": {"model_type": "llama", "pad_token_id": 10**6}}, "configuration"),
    ],
)
def test_configurations_that_cannot_be_built_are_refused(
    folder: Path, facts: Facts, told: str
) -> None:
    with pytest.raises(VlmInvalid, match=told):
        load(configure(folder, **facts))


def test_tokens_without_a_row_are_refused_where_prompts_may_hold_them(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**facts, "pad_token": "<later>"}), encoding="utf-8")
    assert load(folder).tokenizer.pad_token_id == 320  # as Llama 2's: never asked, never said
    words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words["model"]["vocab"]["\u0120"] = 999
    (folder / "tokenizer.json").write_text(json.dumps(words), encoding="utf-8")
    with pytest.raises(VlmInvalid, match="has the id 999, its decoder 320 tokens"):
        load(folder)


def test_how_its_publisher_computed_attention_does_not_matter(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_config"]
    text["_attn_implementation"] = "flash_attention_2"  # which is not installed here
    assert load(configure(folder, text_config=text)).family == "llava"


def test_without_the_library_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(VlmLibraryMissing, match="extra 'vlm'"):
        load(folder)
