from __future__ import annotations

import pytest

from registry.errors import QuestionInvalid
from registry.questions import (
    MAX_ANSWER,
    MAX_OPTIONS,
    MAX_QUESTION,
    among,
    answer_key,
    normalise_answer,
    normalise_options,
    normalise_question,
    question_digest,
)


def test_questions_are_normalised_and_may_have_lines() -> None:
    assert normalise_question("  Wie heißt\ndas Tier? ") == "Wie heißt\ndas Tier?"
    assert normalise_question("Cafe\u0301?") == "Café?"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (" \u200b ", "is empty"),
        ("a\x07b", "control characters"),
        ("?" * (MAX_QUESTION + 1), f"has {MAX_QUESTION + 1} characters"),
    ],
)
def test_what_is_no_question_is_refused(text: str, reason: str) -> None:
    with pytest.raises(QuestionInvalid, match=reason) as caught:
        normalise_question(text)
    assert caught.value.part == "question"


def test_a_wrong_answer_is_refused_by_its_own_name() -> None:
    with pytest.raises(QuestionInvalid) as caught:
        normalise_answer("!" * (MAX_ANSWER + 1), "wrong answer")
    assert caught.value.part == "wrong answer"


def test_there_are_2_to_64_different_options() -> None:
    assert normalise_options([" red", "blue "]) == ["red", "blue"]
    assert len(normalise_options([str(number) for number in range(MAX_OPTIONS)])) == MAX_OPTIONS
    with pytest.raises(QuestionInvalid, match="2 to 64, not 1"):
        normalise_options(["red"])
    with pytest.raises(QuestionInvalid, match="2 to 64, not 65"):
        normalise_options([str(number) for number in range(MAX_OPTIONS + 1)])
    with pytest.raises(QuestionInvalid, match="'red' stands twice"):
        normalise_options(["red", "red "])
    with pytest.raises(QuestionInvalid, match="the option is empty"):
        normalise_options(["red", " "])
    with pytest.raises(QuestionInvalid, match="201 characters"):
        normalise_options(["red", "b" * 201])


def test_an_answer_must_be_among_the_options() -> None:
    assert among("red", ["red", "blue"]) == "red"
    with pytest.raises(QuestionInvalid, match="'green' is not among the options"):
        among("green", ["red", "blue"])


def test_answers_are_compared_without_case_spaces_and_a_full_stop() -> None:
    assert answer_key(" A  red Fox. ") == answer_key("a red fox")
    assert answer_key("red") != answer_key("read")


def test_no_question_has_no_digest() -> None:
    assert question_digest("") == ""
    assert len(question_digest("What is this?")) == 64
