from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from encoder.vlm import decoding as module
from encoder.vlm.decoding import Decoding, Piece, generate
from encoder.vlm.errors import AnswerTooLong
from encoder.vlm.model import Prompt, VisionLanguageModel
from encoder.vlm.sampling import Sampling
from tests.support.vlm_prompts import greedy_by_full_passes, ragged_prompts

GREEDY = Sampling(12)


@pytest.fixture(name="widths")
def _widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every forward pass of `Decoding`."""
    found: list[int] = []
    whole = module.hidden_states

    def counted(
        vlm: VisionLanguageModel, embeddings: torch.Tensor, *rest: Any, **named: Any
    ) -> torch.Tensor:
        found.append(embeddings.shape[0])
        return whole(vlm, embeddings, *rest, **named)

    monkeypatch.setattr(module, "hidden_states", counted)
    return found


def texts(pieces: Sequence[Piece]) -> dict[int, str]:
    found: dict[int, str] = {}
    for piece in pieces:
        found[piece.row] = found.get(piece.row, "") + piece.text
    return found


def run(decoding: Decoding) -> list[Piece]:
    pieces: list[Piece] = []
    while not decoding.done:
        pieces += decoding.step()
    return pieces


def expected_text(vlm: VisionLanguageModel, prompt: Prompt, max_tokens: int) -> str:
    ids = greedy_by_full_passes(vlm, prompt, max_tokens)
    text: str = vlm.tokenizer.decode(
        [token for token in ids if token != vlm.words.end], skip_special_tokens=True
    )
    return text.lstrip().rstrip("\ufffd")


def eager_to_end(vlm: VisionLanguageModel, prompt: Prompt, place: int) -> VisionLanguageModel:
    """The same model, but the token that it would say at `place` of its answer is the end token."""
    ids = greedy_by_full_passes(vlm, prompt, place + 1)
    return replace(vlm, words=replace(vlm.words, end=ids[place]))


def test_greedy_answers_are_those_of_full_passes_and_of_transformers(
    tiny_vlm: VisionLanguageModel,
) -> None:
    prompts = ragged_prompts(tiny_vlm)
    answers = generate(tiny_vlm, prompts, [GREEDY] * len(prompts))
    decoder: Any = tiny_vlm.decoder
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.text == expected_text(tiny_vlm, prompt, 12)
        theirs = decoder.generate(
            inputs_embeds=prompt.embeddings[None],
            attention_mask=torch.ones(1, len(prompt.embeddings), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
        )[0]
        words = tiny_vlm.tokenizer.decode(theirs, skip_special_tokens=True)
        assert answer.text == words.lstrip().rstrip("\ufffd")
        assert answer.tokens == len(theirs)
        assert answer.finish_reason == "length"
    assert len({answer.text for answer in answers}) > 1


def test_answers_together_are_those_one_by_one(tiny_vlm: VisionLanguageModel) -> None:
    prompts = ragged_prompts(tiny_vlm)
    manners = [Sampling(limit) for limit in (3, 12, 7, 1)]
    together = generate(tiny_vlm, prompts, manners)
    alone = [
        generate(tiny_vlm, [prompt], [manner])[0]
        for prompt, manner in zip(prompts, manners, strict=True)
    ]
    assert together == alone
    assert [answer.tokens for answer in together] == [3, 12, 7, 1]


def test_a_row_ends_at_the_end_token_and_leaves_the_batch(
    tiny_vlm: VisionLanguageModel, widths: list[int]
) -> None:
    prompts = ragged_prompts(tiny_vlm)
    vlm = eager_to_end(tiny_vlm, prompts[1], 2)
    answers = generate(vlm, prompts, [GREEDY] * len(prompts))
    assert answers[1].finish_reason == "stop"
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = greedy_by_full_passes(vlm, prompt, 12)
        ended = ids[-1] == vlm.words.end
        assert answer.finish_reason == ("stop" if ended else "length")
        assert answer.tokens == len(ids) - ended
        assert answer.text == expected_text(vlm, prompt, 12)
    assert widths[-1] < len(prompts)


def test_a_dropped_row_costs_nothing_from_the_next_step_on(
    tiny_vlm: VisionLanguageModel, widths: list[int]
) -> None:
    prompts = ragged_prompts(tiny_vlm)
    decoding = Decoding(tiny_vlm, prompts, [GREEDY] * 4)
    pieces = [*decoding.step(), *decoding.step()]
    decoding.drop(2)  # the longest
    decoding.drop(2)
    decoding.drop(99)
    assert not decoding.done
    rest = run(decoding)
    assert widths == [4, 4] + [3] * 10
    assert 2 not in {piece.row for piece in rest}
    undisturbed = generate(tiny_vlm, prompts, [GREEDY] * 4)
    found = texts([*pieces, *rest])
    assert [found[row] for row in (0, 1, 3)] == [undisturbed[row].text for row in (0, 1, 3)]


def test_when_all_are_dropped_it_is_done_and_keeps_nothing(
    tiny_vlm: VisionLanguageModel, widths: list[int]
) -> None:
    decoding = Decoding(tiny_vlm, ragged_prompts(tiny_vlm), [GREEDY] * 4)
    decoding.step()
    for row in range(4):
        decoding.drop(row)
    assert decoding.done
    assert decoding.step() == []
    assert decoding._cache is None
    assert widths == [4]


def test_a_row_dropped_before_the_first_step_is_never_computed(
    tiny_vlm: VisionLanguageModel, widths: list[int]
) -> None:
    decoding = Decoding(tiny_vlm, ragged_prompts(tiny_vlm), [Sampling(1)] * 4)
    decoding.drop(0)
    assert {piece.row for piece in run(decoding)} == {1, 2, 3}
    assert widths == [3]


def test_prompts_may_join_between_steps(tiny_vlm: VisionLanguageModel) -> None:
    prompts = ragged_prompts(tiny_vlm)
    alone = [answer.text for answer in generate(tiny_vlm, prompts, [GREEDY] * 4)]
    decoding = Decoding(tiny_vlm, prompts[:1], [GREEDY])
    pieces = [*decoding.step(), *decoding.step()]
    assert decoding.join(prompts[1:3], [GREEDY] * 2) == range(1, 3)  # a longer one, too
    pieces += run(decoding)
    assert decoding.join(prompts[3:], [GREEDY]) == range(3, 4)  # after all others are done
    pieces += run(decoding)
    assert texts(pieces) == dict(enumerate(alone))


def test_a_full_context_ends_an_answer(tiny_vlm: VisionLanguageModel) -> None:
    prompts = ragged_prompts(tiny_vlm)
    longest = max(len(prompt.embeddings) for prompt in prompts)
    tight = replace(tiny_vlm, context_length=longest + 2)
    answers = generate(tight, prompts, [Sampling(20)] * 4)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.tokens == min(20, longest + 2 - len(prompt.embeddings))
        assert answer.finish_reason == "length"
    full = replace(tiny_vlm, context_length=longest)
    with pytest.raises(AnswerTooLong, match=f"{longest + 1}"):
        Decoding(full, prompts, [GREEDY] * 4)


def test_a_stop_text_ends_an_answer_and_is_not_told(tiny_vlm: VisionLanguageModel) -> None:
    prompts = ragged_prompts(tiny_vlm)
    whole = generate(tiny_vlm, prompts[:1], [Sampling(40)])[0].text
    stop = whole[5:8]
    decoding = Decoding(tiny_vlm, prompts[:1], [Sampling(40, stop=(stop, "never said"))])
    pieces = run(decoding)
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
    assert [piece.finish_reason for piece in pieces[-2:]] == [None, "stop"]


def test_every_piece_is_made_of_whole_characters(tiny_vlm: VisionLanguageModel) -> None:
    """The tiny vocabulary is one of bytes, and random weights say any of them."""
    prompts = ragged_prompts(tiny_vlm)
    manners = [Sampling(60, temperature=3.0, seed=seed) for seed in range(4)]
    pieces = run(Decoding(tiny_vlm, prompts, manners))
    for piece in pieces:
        piece.text.encode()  # no half of a surrogate pair
        assert not piece.text.endswith("\ufffd")
    assert any(not piece.text for piece in pieces)


def test_a_seed_makes_an_answer_repeatable_whatever_runs_beside_it(
    tiny_vlm: VisionLanguageModel,
) -> None:
    prompts = ragged_prompts(tiny_vlm)
    manner = Sampling(12, temperature=2.0, top_p=0.95, seed=7)
    (alone,) = generate(tiny_vlm, prompts[:1], [manner])
    beside = generate(tiny_vlm, prompts, [manner, *[Sampling(12, temperature=1.0)] * 3])
    assert beside[0] == alone
    others = {
        generate(tiny_vlm, prompts[:1], [replace(manner, seed=seed)])[0].text for seed in range(5)
    }
    assert len(others) > 1


def test_no_prompts_no_answers(tiny_vlm: VisionLanguageModel) -> None:
    assert generate(tiny_vlm, [], []) == []
    assert Decoding(tiny_vlm, [], []).done
