"""Ragged prompts of a tiny vision-language model, and the slow truth about an answer to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from encoder.vlm.model import Prompt, VisionLanguageModel
from tests.support.tiny_encoder import random_pixels, tiny_encoder

QUESTIONS = (
    "What is this?",
    "Is this a cat, or not?",
    "Which of the many traffic signs that one meets on a road is in front of us here?",
    "Why?",
)


def ragged_prompts(vlm: VisionLanguageModel) -> list[Prompt]:
    """Questions of different lengths, each about another image, the last about none."""
    images: list[Tensor | None] = [*vlm.image_tokens(tiny_encoder(), random_pixels(3)), None]
    return [vlm.question(text, image) for text, image in zip(QUESTIONS, images, strict=True)]


def separate_score(vlm: VisionLanguageModel, prompt: Prompt, answer: str) -> float:
    """log p(answer, end token) from one full pass of transformers' own forward."""
    ids = [*vlm.answer_ids(answer), vlm.words.end]
    scores = _forward(vlm, prompt, ids[:-1]).log_softmax(dim=-1)  # [L + A - 1, V]
    start = len(prompt.embeddings) - 1
    return sum(float(scores[start + place, token]) for place, token in enumerate(ids))


def greedy_by_full_passes(vlm: VisionLanguageModel, prompt: Prompt, max_tokens: int) -> list[int]:
    """Ids of a greedy answer, each token from a full pass; with the end token if it comes."""
    ids: list[int] = []
    while len(ids) < max_tokens and (not ids or ids[-1] != vlm.words.end):
        ids.append(int(_forward(vlm, prompt, ids)[-1].argmax()))
    return ids


def _forward(vlm: VisionLanguageModel, prompt: Prompt, ids: Sequence[int]) -> Tensor:
    decoder: Any = vlm.decoder
    with torch.no_grad():
        words = decoder.get_input_embeddings()(torch.tensor(ids, dtype=torch.long))
        whole = torch.cat([prompt.embeddings, words])
        logits: Tensor = decoder(inputs_embeds=whole[None]).logits[0].float()
    return logits
