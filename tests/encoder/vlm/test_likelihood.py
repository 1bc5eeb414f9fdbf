from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from encoder.vlm.errors import AnswerTooLong
from encoder.vlm.likelihood import answer_likelihood, candidate_likelihoods
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.options import score_options
from tests.support.tiny_encoder import random_pixels, tiny_encoder
from tests.support.vlm_prompts import QUESTIONS, ragged_prompts

ANSWERS = ("a stop sign", "no", "x", "a dog in a wood")


def test_it_is_the_options_score(tiny_vlm: VisionLanguageModel) -> None:
    prompts = ragged_prompts(tiny_vlm)
    found = answer_likelihood(tiny_vlm, [prompt.embeddings for prompt in prompts], ANSWERS)
    scores = score_options(tiny_vlm, prompts, [(answer,) for answer in ANSWERS])
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([row[0].log_likelihood for row in scores], abs=1e-4)


def test_equally_long_prompts_may_be_one_tensor(tiny_vlm: VisionLanguageModel) -> None:
    prompt, *_ = ragged_prompts(tiny_vlm)
    stacked = torch.stack([prompt.embeddings] * 2)
    found = answer_likelihood(tiny_vlm, stacked, ANSWERS[:2])
    alone = answer_likelihood(tiny_vlm, [prompt.embeddings], ANSWERS[1:2])
    assert float(found[1]) == pytest.approx(float(alone[0]), abs=1e-4)


def test_gradients_reach_the_image_tokens_and_are_right(tiny_vlm: VisionLanguageModel) -> None:
    exact = replace(tiny_vlm, decoder=copy.deepcopy(tiny_vlm.decoder).double())
    images = tiny_vlm.image_tokens(tiny_encoder(), random_pixels(2)).double().requires_grad_()

    def likelihood(tokens: torch.Tensor) -> torch.Tensor:
        prompts = [
            exact.question(text, image).embeddings
            for text, image in zip(QUESTIONS, tokens, strict=False)
        ]
        return answer_likelihood(exact, prompts, ANSWERS[:2])

    likelihood(images).sum().backward()
    gradient = images.grad
    assert gradient is not None
    assert all(float(row.abs().max()) > 1e-4 for row in gradient)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).double()
    step = 1e-3
    with torch.no_grad():
        up, down = likelihood(images + step * direction), likelihood(images - step * direction)
    slope = float((up - down).sum()) / (2 * step)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-2)


def test_an_answer_beyond_the_context_is_refused(tiny_vlm: VisionLanguageModel) -> None:
    prompt, *_ = ragged_prompts(tiny_vlm)
    tight = replace(tiny_vlm, context_length=len(prompt.embeddings) + 1)
    with pytest.raises(AnswerTooLong):
        answer_likelihood(tight, [prompt.embeddings], ["a stop sign"])


def test_candidates_of_one_prompt_are_as_likely_as_each_alone(
    tiny_vlm: VisionLanguageModel,
) -> None:
    exact = replace(tiny_vlm, decoder=copy.deepcopy(tiny_vlm.decoder).double())
    candidates = (("a stop sign", "a stop"), ("x",), ("no", "yes", "a dog"))
    images = tiny_vlm.image_tokens(tiny_encoder(), random_pixels(3)).double()
    gradients = []
    for together in (True, False):
        tokens = images.clone().requires_grad_()
        prompts = [
            exact.question(text, image).embeddings
            for text, image in zip(QUESTIONS[:3], tokens, strict=True)
        ]
        if together:
            found = candidate_likelihoods(exact, prompts, candidates)
            whole = torch.cat(found)
        else:
            pairs = [(p, each) for p, row in zip(prompts, candidates, strict=True) for each in row]
            whole = answer_likelihood(exact, [p for p, _ in pairs], [each for _, each in pairs])
            torch.testing.assert_close(torch.cat(found), whole, rtol=1e-4, atol=1e-4)
        torch.autograd.backward((whole * torch.arange(1, 7)).sum())
        assert tokens.grad is not None
        gradients.append(tokens.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_the_longest_candidate_must_fit(tiny_vlm: VisionLanguageModel) -> None:
    prompt, *_ = ragged_prompts(tiny_vlm)
    tight = replace(tiny_vlm, context_length=len(prompt.embeddings) + 1)
    with pytest.raises(AnswerTooLong):
        candidate_likelihoods(tight, [prompt.embeddings], [("x", "a long answer")])
