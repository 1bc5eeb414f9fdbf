"""MiniGPT-v2 at the scale of tests; the full size on the meta device."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from encoder.tower import view_tower
from encoder.vlm.dialogue import Turn
from encoder.vlm.errors import TowerForeign, VlmInvalid
from encoder.vlm.load import load_vlm
from encoder.vlm.minigpt import (
    MiniGptConnector,
    check_tower,
    low_rank_modules,
    merge_low_rank,
    minigpt_reading,
    read_checkpoint,
)
from encoder.vlm.reading import read_tokens
from tests.support.tiny_encoder import tiny_encoder
from tests.support.tiny_minigpt import (
    IMAGE_SIZE,
    checkpoint,
    tiny_minigpt_folder,
    write_llama,
)
from tests.support.tiny_vlm import VLM_WIDTH


def pictures(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (count, 3, IMAGE_SIZE, IMAGE_SIZE)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def seen_by_the_papers_code(
    visual: nn.Module, images: Tensor, trained: dict[str, Tensor]
) -> Tensor:
    """The tower without its last block and norm, as MiniGPT-v2's code writes it down."""
    trunk: Any = copy.deepcopy(visual.get_submodule("trunk"))
    positions = trunk.pos_embed.detach()
    patches = positions[:, 1:].reshape(1, 2, 2, 24).permute(0, 3, 1, 2)
    patches = functional.interpolate(patches, size=(4, 4), mode="bicubic", align_corners=False)
    positions = torch.cat([positions[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
    tokens = trunk.patch_embed.proj(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([trunk.cls_token.expand(len(images), -1, -1), tokens], dim=1) + positions
    for block in trunk.blocks[:-1]:
        tokens = block(tokens)
    normed = functional.layer_norm(tokens, (24,))[:, 1:]
    batch, patch_number, hidden = normed.shape
    joined = normed.view(batch, int(patch_number / 4), int(hidden * 4))
    return functional.linear(joined, trained["llama_proj.weight"], trained["llama_proj.bias"])


@pytest.mark.parametrize("suffix", ["", ".default"])
def test_it_computes_what_the_published_model_computes(tmp_path: Path, suffix: str) -> None:
    encoder = tiny_encoder("timm_fused")
    llama = write_llama(tmp_path / "reference")
    trained = checkpoint()
    vlm = load_vlm(str(tiny_minigpt_folder(tmp_path / "vlm", suffix=suffix)), encoder)
    images = encoder.preprocessing.normalise(pictures())
    with torch.no_grad():
        visual = encoder.model.get_submodule("visual")
        expected = seen_by_the_papers_code(visual, images, trained)
    found = vlm.image_tokens(encoder, pictures())
    assert found.shape == (2, 4, VLM_WIDTH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    for name, weight in trained.items():  # its low rank beside the weight, as it was trained
        if "lora_A" in name:
            other = trained[name.replace("lora_A", "lora_B")]
            path = name.removeprefix("llama_model.base_model.model.").split(".lora_A")[0]
            llama.get_submodule(path).register_forward_hook(
                lambda _, inputs, out, a=weight, b=other: out + 4.0 * inputs[0] @ a.T @ b.T
            )
    prompts = [vlm.question("What is this?", image).embeddings for image in found]
    with torch.no_grad():
        theirs = llama(inputs_embeds=torch.stack(prompts)).logits
        ours = vlm.decoder(inputs_embeds=torch.stack(prompts)).logits
    assert not torch.allclose(theirs[0], theirs[1], atol=1e-2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_its_prompt_is_the_published_one(tmp_path: Path) -> None:
    encoder = tiny_encoder("timm_fused")
    vlm = load_vlm(str(tiny_minigpt_folder(tmp_path / "vlm")), encoder)
    image = torch.full((4, VLM_WIDTH), 7.0)
    prompt = vlm.question("What is this?", image)
    before = vlm.tokenizer("[INST] <Img>").input_ids  # begins with <s>
    text = (
        "</Img> [vqa] Based on the image, respond to this question with a short answer: "
        "What is this? [/INST]"
    )
    after = vlm.tokenizer(text, add_special_tokens=False).input_ids
    embed = vlm.decoder.get_input_embeddings()
    expected = torch.cat([embed(torch.tensor(before)), image, embed(torch.tensor(after))])
    assert torch.equal(prompt.embeddings, expected)
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")]
    ids = vlm.tokenizer("<s>[INST] a [/INST] b</s><s>[INST] c [/INST]", add_special_tokens=False)
    expected = embed(torch.tensor(ids.input_ids))
    assert torch.equal(vlm.prompt(turns, None).embeddings, expected)


def test_images_are_squashed_to_its_own_size(tmp_path: Path) -> None:
    encoder = tiny_encoder("timm_fused")
    vlm = load_vlm(str(tiny_minigpt_folder(tmp_path / "vlm")), encoder)
    wide = Image.new("RGB", (200, 100))
    wide.paste((255, 0, 0), (0, 0, 20, 100))  # a crop would lose this edge
    pixels = vlm.pixels(encoder, wide)
    assert pixels.shape == (3, IMAGE_SIZE, IMAGE_SIZE)
    assert int(pixels[0, 20, 0]) == 255
    assert encoder.preprocessing.to_pixels(wide).shape == (3, 28, 28)


@pytest.mark.parametrize("layout", ["open_clip", "timm_split", "siglip"])
def test_other_towers_are_refused_with_both_names(tmp_path: Path, layout: str) -> None:
    folder = tiny_minigpt_folder(tmp_path / "vlm")
    with pytest.raises(TowerForeign) as caught:
        load_vlm(str(folder), tiny_encoder(layout))
    assert "EVA of width 24" in str(caught.value)
    assert f"tiny-{layout}" in str(caught.value)


class _Boom:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[str, str], int], tuple[str, str]]:
        return (_write, (str(self.file), "boom"))


def _write(file: str, text: str) -> int:
    return Path(file).write_text(text, encoding="utf-8")


def test_a_pickle_that_does_something_is_refused_and_does_nothing(tmp_path: Path) -> None:
    folder = tiny_minigpt_folder(tmp_path / "vlm")
    trap = tmp_path / "trap"
    torch.save({"model": {**checkpoint(), "llama_proj.bias": _Boom(trap)}}, folder / "trained.pth")
    torch.load(folder / "trained.pth", weights_only=False)  # it is a real one
    assert trap.exists()
    trap.unlink()
    with pytest.raises(
        VlmInvalid, match=r"trained\.pth.*cannot be read safely \(it calls .*_write\)"
    ):
        load_vlm(str(folder), tiny_encoder("timm_fused"))
    assert not trap.exists()


def drop(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {n: w for n, w in state.items() if name not in n}


def put(name: str, *shape: int) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {**state, name: torch.zeros(*shape)}


_Q = "llama_model.base_model.model.model.layers.{}.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop("llama_proj.bias"), r"lacks llama_proj\.bias"),
        (drop("layers.1.self_attn.v_proj.lora_B"), r"lacks model\.layers\.1.*v_proj\.lora_B"),
        (put("visual_encoder.cls_token", 1), r"unknown weights visual_encoder\.cls_token"),
        (put(_Q.format(9), 4, VLM_WIDTH), r"layers\.9.*has not"),
        (put(_Q.format(0), 4, VLM_WIDTH + 1), r"layers\.0\.self_attn\.q_proj has shape"),
        (put("llama_proj.bias", 3), r"llama_proj\.bias has shape \[3\], expected \[32\]"),
        (put("ln_vision.weight", 3), r"ln_vision\.weight has shape \[3\], expected \[24\]"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], told: str
) -> None:
    folder = tiny_minigpt_folder(tmp_path / "vlm")
    torch.save({"model": change(checkpoint())}, folder / "trained.pth")
    with pytest.raises(VlmInvalid, match=told):
        load_vlm(str(folder), tiny_encoder("timm_fused"))


@pytest.mark.parametrize("content", [b"", b"no zip", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = tiny_minigpt_folder(tmp_path / "vlm")
    (folder / "trained.pth").write_bytes(content)
    with pytest.raises(VlmInvalid, match=r"trained\.pth"):
        load_vlm(str(folder), tiny_encoder("timm_fused"))


@pytest.mark.parametrize("content", [[1], {"state": {}}, {"model": {"llama_proj.weight": 1}}])
def test_a_checkpoint_of_another_layout_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "trained.pth")
    with pytest.raises(VlmInvalid, match=r"not \{'model'"):
        read_checkpoint(tmp_path / "trained.pth")


@pytest.mark.parametrize("files", [(), ("a.pth", "b.pth")])
def test_a_llama_with_no_or_two_checkpoints_is_refused(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    write_llama(tmp_path / "vlm")
    for file in files:
        torch.save({"model": checkpoint()}, tmp_path / "vlm" / file)
    with pytest.raises(VlmInvalid, match="exactly one"):
        load_vlm(str(tmp_path / "vlm"), tiny_encoder("timm_fused"))


@pytest.mark.parametrize("size", [0, -1, 14, "big", 10**9])
def test_image_sizes_that_cannot_be_taken_by_fours_are_refused(
    tmp_path: Path, size: object
) -> None:
    folder = tiny_minigpt_folder(tmp_path / "vlm")
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "emend": {"image_size": size}}), encoding="utf-8")
    with pytest.raises(VlmInvalid, match="image"):
        load_vlm(str(folder), tiny_encoder("timm_fused"))


def meta_tower(name: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = open_clip.create_model(name, device="meta")
    return model.eval()


def published(width: int = 1408) -> dict[str, Tensor]:
    """The published checkpoint's names and shapes."""
    state = {"llama_proj.weight": (4096, 4 * width), "llama_proj.bias": (4096,)}
    for layer in range(32):
        for part in ("q_proj", "v_proj"):
            name = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{part}.lora_"
            state |= {f"{name}A.weight": (64, 4096), f"{name}B.weight": (4096, 64)}
    return {name: torch.empty(shape, device="meta") for name, shape in state.items()}


def test_the_full_size_has_the_published_geometry() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = meta_tower("EVA01-g-14")
    visual, tower = model.get_submodule("visual"), view_tower(model)
    check_tower(visual, tower, "EVA01-g-14", published())
    reading = minigpt_reading({}, visual, tower, "test")
    assert (reading.blocks, reading.class_token, reading.image_size) == (39, False, 448)
    tokens = read_tokens(visual, torch.empty(1, 3, 448, 448, device="meta"), reading)
    with torch.device("meta"):
        assert MiniGptConnector(1408, 4096)(tokens).shape == (1, 256, 4096)
        decoder = LlamaForCausalLM(LlamaConfig())
    assert len(low_rank_modules(decoder)) == 64
    merge_low_rank(decoder, published(), "test")
    total = sum(p.numel() for p in decoder.parameters())
    assert total == 6_738_415_616  # Llama-2-7B


@pytest.mark.parametrize("name", ["EVA02-L-14", "ViT-L-14", "ViT-B-16-SigLIP"])
def test_the_published_checkpoint_takes_no_other_real_tower(name: str) -> None:
    model = meta_tower(name)
    with pytest.raises(TowerForeign) as caught:
        check_tower(model.get_submodule("visual"), view_tower(model), name, published())
    assert (caught.value.expected, caught.value.found) == ("EVA01-g-14", name)
