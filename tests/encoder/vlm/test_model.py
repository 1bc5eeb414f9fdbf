from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from encoder.deltas import Dense
from encoder.vlm.errors import DialogueInvalid, PromptTooLong
from encoder.vlm.model import Turn, VisionLanguageModel
from encoder.vlm.reading import unreached
from encoder.vlm.words import Words
from tests.support.tiny_encoder import SIDE, random_pixels, state_bytes, tiny_encoder
from tests.support.tiny_vlm import VLM_CONTEXT, VLM_WIDTH

BLOCK = "visual.transformer.resblocks.{}.mlp.c_fc.weight"
ROOT = Path(__file__).resolve().parents[3]


def test_an_adapter_changes_what_the_model_sees(tiny_vlm: VisionLanguageModel) -> None:
    """In the blocks that it reads; in the last one nothing, and that is told beforehand."""
    base, pixels = tiny_encoder(), random_pixels(2)
    before = tiny_vlm.image_tokens(base, pixels)
    for block, seen in ((0, True), (1, False)):
        name = BLOCK.format(block)
        weight = base.model.get_parameter(name)
        version = base.merged_deltas({name: Dense(torch.ones_like(weight))}, label="test")
        after = tiny_vlm.image_tokens(version, pixels)
        assert torch.equal(before, after) != seen
        assert unreached(tiny_vlm.reading, base.tower, [name]) == ([] if seen else [name])
        assert not torch.equal(base.embed_images(pixels), version.embed_images(pixels))
    assert torch.equal(before, tiny_vlm.image_tokens(base, pixels))


def test_images_are_seen_the_same_one_by_one_and_together(tiny_vlm: VisionLanguageModel) -> None:
    encoder, pixels = tiny_encoder(), random_pixels(19)
    together = tiny_vlm.image_tokens(encoder, pixels)
    assert together.shape == (19, 4, VLM_WIDTH)
    assert not together.requires_grad
    single = torch.cat([tiny_vlm.image_tokens(encoder, one[None]) for one in pixels])
    torch.testing.assert_close(together, single)
    assert len({str(row.tolist()) for row in together}) == 19


def test_pixels_are_the_encoders_own(tiny_vlm: VisionLanguageModel) -> None:
    encoder = tiny_encoder()
    photo = Image.effect_noise((90, 60), 80).convert("RGB")
    assert tiny_vlm.pixels(encoder, photo).shape == (3, SIDE, SIDE)
    assert torch.equal(tiny_vlm.pixels(encoder, photo), encoder.preprocessing.to_pixels(photo))


def test_a_prompt_is_words_and_image_in_their_places(tiny_vlm: VisionLanguageModel) -> None:
    image = torch.full((4, VLM_WIDTH), 7.0)
    prompt = tiny_vlm.prompt([Turn("user", "Hi", has_image=True)], image)
    tokenizer = tiny_vlm.tokenizer
    before = tokenizer("USER: ").input_ids
    after = tokenizer("\nHi ASSISTANT:", add_special_tokens=False).input_ids
    assert (prompt.text_tokens, prompt.image_tokens) == (len(before) + len(after), 4)
    assert torch.equal(prompt.embeddings[len(before) : len(before) + 4], image)
    embed = tiny_vlm.decoder.get_input_embeddings()
    assert torch.equal(prompt.embeddings[: len(before)], embed(torch.tensor(before)))
    assert torch.equal(prompt.embeddings[len(before) + 4 :], embed(torch.tensor(after)))


def test_gradients_go_through_prompt_and_connector(tiny_vlm: VisionLanguageModel) -> None:
    tokens = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    prompt = tiny_vlm.question("What is this?", tiny_vlm.connect(tokens)[0])
    tiny_vlm.decoder(inputs_embeds=prompt.embeddings[None]).logits.square().sum().backward()
    assert tokens.grad is not None
    assert bool((tokens.grad != 0).any())
    assert not [p for p in tiny_vlm.decoder.parameters() if p.grad is not None]


def test_too_long_a_question_is_refused_with_its_length(tiny_vlm: VisionLanguageModel) -> None:
    image = torch.zeros(4, VLM_WIDTH)
    with pytest.raises(PromptTooLong) as caught:
        tiny_vlm.question("x" * 2_000, image)
    assert caught.value.tokens > 2_000
    assert caught.value.limit == VLM_CONTEXT
    assert "512" in str(caught.value)
    fits = VLM_CONTEXT - 1 - tiny_vlm.question("", image).embeddings.shape[0]
    prompt = tiny_vlm.question("\x01" * fits, image)  # a token each
    assert len(prompt.embeddings) == VLM_CONTEXT - 1
    with pytest.raises(PromptTooLong):
        tiny_vlm.question("\x01" * (fits + 1), image)


def test_what_cannot_fit_is_not_divided_into_tokens(tiny_vlm: VisionLanguageModel) -> None:
    longest = max(map(len, tiny_vlm.tokenizer.get_vocab()))
    with pytest.raises(PromptTooLong, match="at least 512 tokens"):
        tiny_vlm.question("x" * (VLM_CONTEXT * longest), None)
    with pytest.raises(PromptTooLong) as caught:  # counted: it might have been words
        tiny_vlm.question("x" * (VLM_CONTEXT * longest - 1), None)
    assert caught.value.tokens > VLM_CONTEXT * longest - 1
    unread = replace(tiny_vlm, words=_Unread(tiny_vlm.tokenizer, 1, 2))
    halves = [Turn("user", "x" * 20_000), Turn("assistant", "x" * 20_000), Turn("user", "x")]
    with pytest.raises(PromptTooLong):
        unread.prompt(halves, None)


class _Unread(Words):
    def ids(self, text: str, *, first: bool) -> list[int]:
        raise AssertionError(f"{len(text)} characters ({first=}) were divided into tokens")


def test_an_image_without_its_turn_is_refused(tiny_vlm: VisionLanguageModel) -> None:
    with pytest.raises(DialogueInvalid, match="image"):
        tiny_vlm.prompt([Turn("user", "Hi")], torch.zeros(4, VLM_WIDTH))
    with pytest.raises(DialogueInvalid, match="image"):
        tiny_vlm.prompt([Turn("user", "Hi", has_image=True)], None)
    assert tiny_vlm.question("Hi", None).image_tokens == 0


def test_many_threads_may_ask_at_once(tiny_vlm: VisionLanguageModel) -> None:
    encoder, pixels = tiny_encoder(), random_pixels(8)
    before = state_bytes(encoder.model)
    questions = [f"Is this number {index}?" for index in range(8)]

    def ask(index: int) -> torch.Tensor:
        image = tiny_vlm.image_tokens(encoder, pixels[index : index + 1])[0]
        prompt = tiny_vlm.question(questions[index], image)
        with torch.no_grad():
            logits: torch.Tensor = tiny_vlm.decoder(inputs_embeds=prompt.embeddings[None]).logits
        return logits

    expected = [ask(index) for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, list(range(8)) * 4))
    for index, logits in enumerate(found):
        torch.testing.assert_close(logits, expected[index % 8])
    assert state_bytes(encoder.model) == before


def test_transformers_models_are_imported_only_when_one_is_loaded() -> None:
    modules = "load, model, hf_deltas, reading, minigpt"
    heavy = "[name for name in sys.modules if name.startswith('transformers.models.llama')]"
    code = f"from encoder.vlm import {modules}\nimport sys\nprint({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_only_the_first_words_stand_at_the_beginning(
    tiny_vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def ids(_: Words, text: str, *, first: bool) -> list[int]:
        asked.append((text, first))
        return [5]

    monkeypatch.setattr(Words, "ids", ids)
    turns = [Turn("user", "a", has_image=True), Turn("assistant", "b"), Turn("user", "c")]
    tiny_vlm.prompt(turns, torch.zeros(4, VLM_WIDTH))
    assert asked == [
        ("USER: ", True),
        ("\na ASSISTANT: b", False),
        ("USER: c ASSISTANT:", False),
    ]
