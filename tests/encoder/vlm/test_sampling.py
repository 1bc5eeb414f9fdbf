from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from encoder.vlm.errors import SamplingInvalid
from encoder.vlm.sampling import Sampling, TokenDraw

LOGITS = torch.tensor([0.0, 2.0, 1.0, -4.0])


def test_temperature_zero_takes_the_likeliest() -> None:
    draw = TokenDraw(Sampling(1))
    assert draw.greedy
    assert draw.choose(LOGITS) == 1


def test_draws_follow_the_softmax() -> None:
    draw = TokenDraw(Sampling(1, temperature=2.0, seed=0))
    counts = Counter(draw.choose(LOGITS) for _ in range(4000))
    for token, share in enumerate((LOGITS / 2).softmax(dim=-1).tolist()):
        assert counts[token] / 4000 == pytest.approx(share, abs=0.03)


def test_top_p_keeps_the_likeliest_that_reach_it() -> None:
    likely = LOGITS.softmax(dim=-1)
    first, two = float(likely[1]), float(likely[1] + likely[2])
    for top_p, expected in ((first / 2, {1}), ((first + two) / 2, {1, 2})):
        draw = TokenDraw(Sampling(1, temperature=1.0, top_p=top_p, seed=0))
        assert {draw.choose(LOGITS) for _ in range(300)} == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_drawn_as_greedily(value: float) -> None:
    broken = torch.full((4,), value)
    draw = TokenDraw(Sampling(1, temperature=1.0, top_p=0.5, seed=0))
    assert draw.choose(broken) == TokenDraw(Sampling(1)).choose(broken)


@pytest.mark.parametrize("temperature", [1e-320, 1e-30])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    draw = TokenDraw(Sampling(1, temperature=temperature, seed=0))
    assert {draw.choose(LOGITS * 50) for _ in range(20)} == {1}


def test_without_a_seed_answers_differ() -> None:
    flat = torch.zeros(10_000)
    assert len({TokenDraw(Sampling(1, temperature=1.0)).choose(flat) for _ in range(5)}) > 1


@pytest.mark.parametrize("seed", [-1, 2**64, 0])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    drawn = [TokenDraw(Sampling(1, 1.0, seed=seed)).choose(torch.zeros(10_000)) for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"stop": ("a", "")}, "stop text is empty"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(SamplingInvalid, match=told):
        Sampling(**{"max_tokens": 1, **wrong})
