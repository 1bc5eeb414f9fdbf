from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import factory
from safetensors.torch import load_file, save_file

from encoder import clip, weights
from encoder.clip import load_encoder
from encoder.errors import (
    PickledWeights,
    TokenizerUnavailable,
    UnknownEncoder,
    UnknownPretrained,
    UnknownTowerLayout,
    WeightsInvalid,
    WeightsRequired,
    WeightsUnavailable,
)
from encoder.weights import find_source
from tests.support.tiny_encoder import random_pixels, tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "own"))


def test_a_folder_is_loaded_with_and_without_its_prefix(folder: Path) -> None:
    plain, prefixed = load_encoder(str(folder)), load_encoder(f"local-dir:{folder}")
    assert plain.digest == prefixed.digest
    assert plain.embed_images(random_pixels(2)).shape == (2, 16)


def test_loading_raises_no_false_alarm_about_random_weights(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_encoder(str(folder))
    assert caplog.text == ""


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownEncoder, match="ViT-Z-99"):
        load_encoder("ViT-Z-99", "openai")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownEncoder, match="no such folder"):
        load_encoder(f"local-dir:{tmp_path / 'nothing'}")


def test_a_name_without_weights_says_which_there_are() -> None:
    with pytest.raises(WeightsRequired, match="openai") as caught:
        load_encoder("ViT-B-32")
    assert "laion2b_s34b_b79k" in caught.value.known


def test_an_unknown_tag_says_which_there_are() -> None:
    with pytest.raises(UnknownPretrained, match="openai"):
        load_encoder("ViT-B-32", "no_such_tag")


def test_a_tag_that_leads_to_a_pickled_file_is_refused_unopened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights.open_clip, "download_pretrained", lambda _: "open_clip.bin")
    with pytest.raises(PickledWeights, match=r"open_clip\.bin"):
        load_encoder("ViT-B-32", "openai")


def test_a_pickled_file_is_refused_unopened(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"not even read")
    with pytest.raises(PickledWeights, match=r"weights\.pt"):
        load_encoder("ViT-B-32", str(file))


def test_a_tag_that_cannot_be_fetched_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise FileNotFoundError("offline")

    monkeypatch.setattr(weights.open_clip, "download_pretrained", offline)
    with pytest.raises(WeightsUnavailable, match="offline"):
        load_encoder("ViT-B-32", "openai")


def test_the_openai_tags_bring_their_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without QuickGELU these weights lose points silently; open_clip only warns."""
    monkeypatch.setattr(weights.open_clip, "download_pretrained", lambda _: "w.safetensors")
    assert find_source("ViT-L-14", "openai").quick_gelu
    assert not find_source("ViT-L-14", "laion2b_s32b_b82k").quick_gelu


def test_tags_bring_their_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.open_clip, "download_pretrained", lambda _: "w.safetensors")
    overrides = find_source("ViT-B-16-SigLIP", "webli").preprocessing
    assert overrides is not None
    assert overrides["resize_mode"] == "squash"
    assert overrides["mean"] == (0.5, 0.5, 0.5)


def test_a_named_architecture_takes_a_safetensors_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-named", config)
    named = load_encoder("tiny-named", str(folder / "open_clip_model.safetensors"))
    pixels = random_pixels(2)
    local = load_encoder(str(folder))
    assert named.pretrained is not None
    assert named.preprocessing != local.preprocessing
    again = named.model.state_dict()
    assert all(torch.equal(again[k], v) for k, v in local.model.state_dict().items())
    assert named.embed_images(pixels).shape == (2, 16)


def test_random_weights_must_be_asked_for(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-named", config)
    with pytest.raises(WeightsRequired):
        load_encoder("tiny-named")
    assert load_encoder("tiny-named", random_weights=True).name == "tiny-named"


def test_a_folder_without_its_config_or_weights_is_refused(own_folder: Path) -> None:
    (own_folder / "open_clip_model.safetensors").rename(own_folder / "open_clip_model.bin")
    with pytest.raises(WeightsInvalid, match="no safetensors"):
        load_encoder(str(own_folder))
    (own_folder / "open_clip_config.json").unlink()
    with pytest.raises(WeightsInvalid, match=r"no open_clip_config\.json"):
        load_encoder(str(own_folder))


def test_a_pickle_beside_the_safetensors_is_never_opened(own_folder: Path) -> None:
    """open_clip itself would prefer this file's name."""
    (own_folder / "open_clip_model.safetensors").rename(own_folder / "model.safetensors")
    (own_folder / "open_clip_pytorch_model.bin").write_bytes(b"a pickle")
    assert load_encoder(str(own_folder)).embed_texts(["a"]).shape == (1, 16)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model_cfg": {}}', '{"model_cfg": 3}'])
def test_a_damaged_config_is_refused(own_folder: Path, text: str) -> None:
    (own_folder / "open_clip_config.json").write_text(text)
    with pytest.raises(WeightsInvalid, match=r"open_clip_config\.json"):
        load_encoder(str(own_folder))


@pytest.mark.parametrize("cut", [0, 4, 1000])
def test_truncated_weights_are_refused(own_folder: Path, cut: int) -> None:
    file = own_folder / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(WeightsInvalid, match=r"open_clip_model\.safetensors"):
        load_encoder(str(own_folder))


def test_weights_of_another_shape_are_refused(own_folder: Path) -> None:
    file = own_folder / "open_clip_model.safetensors"
    state = load_file(file)
    save_file({**state, "visual.proj": torch.ones(3, 3)}, file)
    with pytest.raises(WeightsInvalid, match=r"visual\.proj"):
        load_encoder(str(own_folder))


def test_a_tower_of_another_kind_is_refused_when_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    config = open_clip.get_model_config("RN50")
    config["vision_cfg"] |= {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
    config["text_cfg"] |= {"width": 16, "heads": 2, "layers": 1}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-resnet", config)
    with pytest.raises(UnknownTowerLayout, match="ModifiedResNet"):
        load_encoder("tiny-resnet", random_weights=True)


def test_a_tokenizer_that_cannot_be_loaded_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(_: str) -> None:
        raise OSError("no tokenizer.json")

    monkeypatch.setattr(clip.open_clip, "get_tokenizer", missing)
    with pytest.raises(TokenizerUnavailable, match=r"tokenizer\.json"):
        load_encoder("ViT-B-16-SigLIP", random_weights=True)


def test_a_hub_name_that_cannot_be_fetched_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(_: str) -> str:
        raise FileNotFoundError("offline")

    monkeypatch.setattr(weights, "download_pretrained_from_hf", offline)
    with pytest.raises(WeightsUnavailable, match="offline"):
        load_encoder("hf-hub:somebody/something")
