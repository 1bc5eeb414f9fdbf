"""Scores against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from benchmark.vqa.answer_text import normalise_answer
from benchmark.vqa.scoring import Spread, accuracy, auroc, open_answer_score


@pytest.mark.parametrize(
    ("answer", "compared_as"),
    [
        ("The Cat", "cat"),
        ("a can of soup.", "can of soup"),
        ("Yes!", "yes"),  # beside no space: becomes one, which is stripped
        ("red,blue", "red blue"),
        ("red, blue", "red blue"),
        ("$1,000.50", "$1000.50"),
        ("1,000-2", "10002"),  # a comma in a number: every sign is dropped
        ("left-right", "left right"),
        ("left - right", "left right"),
        ("none", "0"),
        ("Ten  apples", "10 apples"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("twas", "'twas"),
        ("somebody'd", "somebodyd"),
        ("let's", "let's"),
        ("hed", "he'd"),
        ("3.5", "3.5"),
        ("end.", "end"),
        ("what?\nno", "what no"),
        ("an", ""),
    ],
)
def test_answers_are_compared_in_the_official_form(answer: str, compared_as: str) -> None:
    assert normalise_answer(answer) == compared_as


@pytest.mark.parametrize(
    ("agreeing", "score"),
    [
        (0, 0.0),
        # One agrees: left out once (0), nine times there (1/3): 9/10 * 1/3
        (1, 0.3),
        (2, (2 * 1 / 3 + 8 * 2 / 3) / 10),  # 0.6
        (3, (3 * 2 / 3 + 7 * 1) / 10),  # 0.9
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_an_open_answer_scores_by_how_many_people_agree(agreeing: int, score: float) -> None:
    people = ["the cat"] * agreeing + ["dog"] * (10 - agreeing)
    assert open_answer_score("Cat.", people) == pytest.approx(score)


def test_nobody_to_agree_with_is_an_error() -> None:
    with pytest.raises(ValueError, match="nobody"):
        open_answer_score("cat", [])


def test_accuracy_is_in_percent() -> None:
    assert accuracy([0, 1, 2, 3], [0, 1, 2, 0]) == 75.0
    with pytest.raises(ValueError, match="no answers"):
        accuracy([], [])
    with pytest.raises(ValueError, match="shorter"):
        accuracy([1, 2], [1])


def test_auroc_counts_pairs_in_the_right_order() -> None:
    # pairs: (0.8, 0.1) (0.8, 0.5) right, (0.4, 0.1) right, (0.4, 0.5) wrong: 3 of 4
    assert auroc([0.8, 0.4, 0.1, 0.5], [True, True, False, False]) == 0.75
    assert auroc([0.9, 0.8, 0.1], [True, True, False]) == 1.0
    assert auroc([0.1, 0.9], [True, False]) == 0.0


def test_a_tie_counts_half() -> None:
    assert auroc([0.5, 0.5, 0.5], [True, False, False]) == 0.5
    # positives 0.5 and 0.7; negatives 0.5 and 0.2: pairs 0.5, 1, 1, 1 of 4
    assert auroc([0.5, 0.7, 0.5, 0.2], [True, True, False, False]) == 0.875


def test_auroc_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="positive and negative"):
        auroc([0.5, 0.7], [True, True])


def test_spread_is_mean_and_sample_deviation() -> None:
    assert Spread.of([1.0, 2.0, 6.0]) == Spread(3.0, math.sqrt((4 + 1 + 9) / 2), 3)
    assert Spread.of([4.0]) == Spread(4.0, 0.0, 1)
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])
