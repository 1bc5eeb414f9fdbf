from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from encoder.clip import Encoder
from encoder.deltas import Delta, LowRank, Sparse
from encoder.vlm.hf_deltas import VISION_MODEL, hf_deltas
from encoder.vlm.load import load_vlm
from encoder.vlm.model import Turn, VisionLanguageModel
from tests.support.tiny_encoder import LAYOUTS, random_pixels, tiny_encoder
from tests.support.tiny_vlm import VLM_WIDTH, tiny_vlm_folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_without_a_tower_reads_the_encoders_own(layout: str, tmp_path: Path) -> None:
    encoder = tiny_encoder(layout)
    vlm = load_vlm(str(tiny_vlm_folder(tmp_path / "vlm", encoder)), encoder)
    tokens = vlm.image_tokens(encoder, random_pixels(3))
    assert tokens.shape == (3, 4, VLM_WIDTH)
    prompt = vlm.question("What is this?", tokens[0])
    assert prompt.image_tokens == 4
    assert prompt.embeddings.shape == (prompt.text_tokens + 4, VLM_WIDTH)


@pytest.mark.parametrize("edited", [False, True])
def test_logits_are_those_of_transformers_own_llava(full: Path, *, edited: bool) -> None:
    """The whole model, its tower edited by mapped deltas, against ours over a merged encoder."""
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    base, pixels = tiny_encoder(), random_pixels(2)
    vlm = load_vlm(str(full), base)
    whole = LlavaForConditionalGeneration.from_pretrained(full).eval()
    deltas = an_edit(base) if edited else {}
    encoder = base.merged_deltas(deltas, label="edit")
    tower = whole.model.vision_tower
    mapped = {n.removeprefix(VISION_MODEL): d for n, d in hf_deltas(base, deltas).items()}
    state = tower.state_dict()
    tower.load_state_dict({n: mapped[n].apply(w) if n in mapped else w for n, w in state.items()})
    tokenizer = AutoTokenizer.from_pretrained(full)
    text = "USER: " + "<image>" * 4 + "\nWhat is this? ASSISTANT:"
    ids = torch.tensor([tokenizer(text).input_ids] * 2)
    with torch.no_grad():
        seen = base.preprocessing.normalise(pixels)
        theirs = whole(input_ids=ids, pixel_values=seen).logits
        ours = vlm.decoder(inputs_embeds=prompts(vlm, encoder, pixels)).logits
        unedited = vlm.decoder(inputs_embeds=prompts(vlm, base, pixels)).logits
    assert not torch.allclose(theirs[0], theirs[1], atol=1e-2)
    assert torch.allclose(ours, unedited, atol=1e-2) != edited
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def prompts(vlm: VisionLanguageModel, encoder: Encoder, pixels: Tensor) -> Tensor:
    """The same question about each image, [B, L, D]."""
    turns = [Turn("user", "What is this?", has_image=True)]
    images = vlm.image_tokens(encoder, pixels)
    return torch.stack([vlm.prompt(turns, image).embeddings for image in images])


def an_edit(base: Encoder) -> dict[str, Delta]:
    """What LoRSU changes in the first block: some heads by low rank, some of fc1."""
    generator = torch.Generator().manual_seed(1)
    block = base.tower.blocks[0]
    (rows,) = block.head_rows([1, 2]).values()
    up = torch.randn(len(rows), 2, generator=generator)
    mask = torch.rand(base.model.get_parameter(block.fc1[0]).shape, generator=generator) > 0.9
    return {
        block.attention[0]: LowRank(torch.randn(2, 32, generator=generator), up, rows, 0.1),
        block.fc1[0]: Sparse(mask, torch.randn(int(mask.sum()), generator=generator)),
    }
