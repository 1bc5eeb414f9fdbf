"""The written-out forward passes against open_clip's own."""

import open_clip
import torch

from recipes.bundled_encoder.blocks import run_image_tower, run_text_tower
from recipes.bundled_encoder.prompts import vocabulary_words
from recipes.bundled_encoder.student import normalise


def test_the_image_tower_agrees_with_open_clip(student: open_clip.CLIP) -> None:
    images = normalise(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        _, tokens = run_image_tower(student.visual, images, 1)
        pooled = tokens[:, 1:].mean(dim=1) @ student.visual.proj
        torch.testing.assert_close(pooled, student.encode_image(images), atol=1e-5, rtol=1e-4)


def test_keeping_all_cells_changes_nothing_and_fewer_give_fewer_tokens(
    student: open_clip.CLIP,
) -> None:
    images = normalise(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    every = torch.arange(64).expand(2, -1)
    with torch.no_grad():
        halfway, final = run_image_tower(student.visual, images, 1)
        kept_halfway, kept_final = run_image_tower(student.visual, images, 1, every)
        _, fewer = run_image_tower(student.visual, images, 1, every[:, ::4])
    assert torch.equal(halfway, kept_halfway)
    assert torch.equal(final, kept_final)
    assert fewer.shape == (2, 17, 64)


def test_the_text_tower_agrees_with_open_clip(student: open_clip.CLIP) -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    prompts = tokenizer(["a photo of the number seven", "stop", "a rather long sentence, is it?"])
    with torch.no_grad():
        expected = student.encode_text(prompts)
        torch.testing.assert_close(run_text_tower(student, prompts), expected, atol=1e-5, rtol=1e-4)


def test_the_vocabulary_has_everyday_words() -> None:
    words = vocabulary_words(open_clip.SimpleTokenizer())
    assert {"seven", "guitar", "yellow"} <= set(words)
    assert len(words) > 20_000
