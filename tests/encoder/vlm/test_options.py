from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from encoder.vlm import options as module
from encoder.vlm.errors import AnswerTooLong, OptionBlank, OptionsMissing
from encoder.vlm.load import load_vlm
from encoder.vlm.model import Prompt, VisionLanguageModel
from encoder.vlm.options import score_options
from tests.support.tiny_encoder import tiny_encoder
from tests.support.vlm_prompts import ragged_prompts, separate_score

CHOICES = (
    ("a stop sign", "a cat", "yes", "a dog in a wood", "no"),
    ("yes", "no"),
    ("a", "a stop", "a stop sign", "a stop sign and more", "s"),  # each begins the next
    ("x",),
)


def test_scores_are_those_of_separate_full_passes(tiny_vlm: VisionLanguageModel) -> None:
    prompts = ragged_prompts(tiny_vlm)
    assert len({len(prompt.embeddings) for prompt in prompts}) == 4
    assert any(len(tiny_vlm.answer_ids(option)) == 1 for row in CHOICES for option in row)
    found = score_options(tiny_vlm, prompts, CHOICES)
    assert [[score.option for score in row] for row in found] == [list(row) for row in CHOICES]
    for prompt, row in zip(prompts, found, strict=True):
        for score in row:
            expected = separate_score(tiny_vlm, prompt, score.option)
            assert score.log_likelihood == pytest.approx(expected, abs=1e-4)
            assert score.tokens == len(tiny_vlm.answer_ids(score.option)) + 1
            assert score.mean == pytest.approx(expected / score.tokens, abs=1e-4)


@pytest.fixture(name="widths")
def _widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens a row of every forward pass."""
    found: list[int] = []
    whole = module.hidden_states

    def counted(vlm: VisionLanguageModel, embeddings: torch.Tensor, *rest: Any) -> torch.Tensor:
        found.append(embeddings.shape[1])
        return whole(vlm, embeddings, *rest)

    monkeypatch.setattr(module, "hidden_states", counted)
    return found


def test_five_options_and_their_prompt_are_one_pass(
    tiny_vlm: VisionLanguageModel, widths: list[int]
) -> None:
    (prompt, *_) = ragged_prompts(tiny_vlm)
    score_options(tiny_vlm, [prompt], [CHOICES[0]])
    tokens = {tuple(tiny_vlm.answer_ids(option)) for option in CHOICES[0]}
    beginnings = {ids[:size] for ids in tokens for size in range(1, len(ids) + 1)}
    assert widths == [len(prompt.embeddings) + len(beginnings)]  # what they share is there once


def test_a_thousand_options_are_scored_in_passes_on_the_kept_prompt(
    tiny_vlm: VisionLanguageModel, widths: list[int]
) -> None:
    prompts = ragged_prompts(tiny_vlm)[:2]
    many = [f"thing {number} of {number % 7}" for number in range(1000)]
    found = score_options(tiny_vlm, prompts, [many, many[:3]])
    assert len(found[0]) == 1000
    assert len(found[1]) == 3
    assert max(widths[1:]) <= module.NODES_A_PASS  # the prompt is computed once
    for row in (0, 1, 500, 999):
        expected = separate_score(tiny_vlm, prompts[0], many[row])
        assert found[0][row].log_likelihood == pytest.approx(expected, abs=1e-4)
    expected = separate_score(tiny_vlm, prompts[1], many[2])
    assert found[1][2].log_likelihood == pytest.approx(expected, abs=1e-4)


def test_an_option_longer_than_a_pass_is_scored(
    tiny_vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NODES_A_PASS", 3)
    prompts = ragged_prompts(tiny_vlm)
    found = score_options(tiny_vlm, prompts, CHOICES)
    for prompt, row in zip(prompts, found, strict=True):
        for score in row:
            expected = separate_score(tiny_vlm, prompt, score.option)
            assert score.log_likelihood == pytest.approx(expected, abs=1e-4)


def test_an_option_may_be_likelier_than_one_that_it_begins_with(
    tiny_vlm: VisionLanguageModel,
) -> None:
    """Without the end token every further token would make it less likely."""
    (prompt, *_) = ragged_prompts(tiny_vlm)
    ids = tiny_vlm.answer_ids("a stop sign")
    assert ids[: len(tiny_vlm.answer_ids("a stop"))] == tiny_vlm.answer_ids("a stop")
    ending = _that_ends_after(tiny_vlm, prompt, ids)
    short, long = score_options(ending, [prompt], [("a stop", "a stop sign")])[0]
    assert long.log_likelihood > short.log_likelihood
    assert long.log_likelihood == pytest.approx(
        separate_score(ending, prompt, "a stop sign"), abs=1e-4
    )


def test_equal_options_and_spaces_around_them_have_equal_scores(
    tiny_vlm: VisionLanguageModel,
) -> None:
    (prompt, *_) = ragged_prompts(tiny_vlm)
    first, second, spaced = score_options(tiny_vlm, [prompt], [("yes", "yes", " yes\n")])[0]
    assert first == second
    assert spaced.log_likelihood == first.log_likelihood
    assert spaced.option == " yes\n"


def test_an_option_cannot_write_the_end_token(tiny_vlm: VisionLanguageModel) -> None:
    (prompt, *_) = ragged_prompts(tiny_vlm)
    (score,) = score_options(tiny_vlm, [prompt], [("yes</s>",)])[0]
    assert score.tokens > len(tiny_vlm.answer_ids("yes")) + 3


def test_half_precision_agrees_roughly(tiny_vlm_path: Any, tiny_vlm: VisionLanguageModel) -> None:
    half = load_vlm(str(tiny_vlm_path), tiny_encoder(), precision="bf16")
    exact = score_options(tiny_vlm, ragged_prompts(tiny_vlm), CHOICES)
    rough = score_options(half, ragged_prompts(half), CHOICES)
    for row, other in zip(exact, rough, strict=True):
        for score, near in zip(row, other, strict=True):
            assert near.mean == pytest.approx(score.mean, abs=0.1)


def test_no_options_and_blank_ones_are_refused(tiny_vlm: VisionLanguageModel) -> None:
    (prompt, *_) = ragged_prompts(tiny_vlm)
    with pytest.raises(OptionsMissing):
        score_options(tiny_vlm, [prompt], [()])
    with pytest.raises(OptionBlank, match="no words"):
        score_options(tiny_vlm, [prompt], [("yes", " ")])
    assert score_options(tiny_vlm, [], []) == []


def test_an_option_beyond_the_context_is_refused_with_numbers(
    tiny_vlm: VisionLanguageModel,
) -> None:
    (prompt, *_) = ragged_prompts(tiny_vlm)
    tokens = len(tiny_vlm.answer_ids("a stop sign"))
    fits = replace(tiny_vlm, context_length=len(prompt.embeddings) + tokens)
    score_options(fits, [prompt], [("a stop sign",)])
    tight = replace(tiny_vlm, context_length=len(prompt.embeddings) + tokens - 1)
    with pytest.raises(AnswerTooLong) as refusal:
        score_options(tight, [prompt], [("yes", "a stop sign")])
    assert (refusal.value.tokens, refusal.value.limit) == (
        len(prompt.embeddings) + tokens,
        len(prompt.embeddings) + tokens - 1,
    )


def _that_ends_after(
    vlm: VisionLanguageModel, prompt: Prompt, ids: list[int]
) -> VisionLanguageModel:
    """The same model, but it ends its answer after these tokens and not after fewer of them."""
    decoder: Any = copy.deepcopy(vlm.decoder)
    with torch.no_grad():
        words = decoder.get_input_embeddings()(torch.tensor(ids))
        whole = torch.cat([prompt.embeddings, words])
        states = decoder.get_decoder()(inputs_embeds=whole[None]).last_hidden_state[0]
        decoder.lm_head.weight[vlm.words.end] = states[-1] - states[-2]
    return replace(vlm, decoder=decoder)
