from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encoder.vlm.dialogue import Turn
from encoder.vlm.load import load_vlm
from tests.support.tiny_encoder import LAYOUTS, random_pixels, tiny_encoder
from tests.support.tiny_vlm import VLM_WIDTH, full_llava_folder, tiny_vlm_folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_without_a_tower_reads_the_encoders_own(layout: str, tmp_path: Path) -> None:
    encoder = tiny_encoder(layout)
    vlm = load_vlm(str(tiny_vlm_folder(tmp_path / "vlm", encoder)), encoder)
    tokens = vlm.image_tokens(encoder, random_pixels(3))
    assert tokens.shape == (3, 4, VLM_WIDTH)
    prompt = vlm.question("What is this?", tokens[0])
    assert prompt.image_tokens == 4
    assert prompt.embeddings.shape == (prompt.text_tokens + 4, VLM_WIDTH)


def test_logits_are_those_of_transformers_own_llava(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    encoder = tiny_encoder()
    folder = full_llava_folder(tmp_path / "full", encoder)
    vlm = load_vlm(str(folder), encoder)
    whole = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    pixels = random_pixels(2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "USER: " + "<image>" * 4 + "\nWhat is this? ASSISTANT:"
    ids = torch.tensor([tokenizer(text).input_ids] * 2)
    normalised = encoder.preprocessing.normalise(pixels)
    with torch.no_grad():
        theirs = whole(input_ids=ids, pixel_values=normalised).logits
        prompts = [
            vlm.prompt([Turn("user", "What is this?", has_image=True)], image).embeddings
            for image in vlm.image_tokens(encoder, pixels)
        ]
        ours = vlm.decoder(inputs_embeds=torch.stack(prompts)).logits
    assert theirs.std() > 0.1
    assert not torch.allclose(theirs[0], theirs[1], atol=1e-2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
