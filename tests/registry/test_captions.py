from __future__ import annotations

import pytest

from registry.captions import Caption, implied_caption


@pytest.mark.parametrize(
    "question",
    [
        "What is this?",
        "what's this",
        "What is shown in the image?",
        "What is in this picture?",
        "What kind of animal is this?",
        "Which traffic sign is this?",
        "What are these?",
    ],
)
def test_the_answer_to_what_something_is_names_it(question: str) -> None:
    found = implied_caption(question, "a fox", "a dog")
    assert found == Caption("fox", "dog", own_prompt=False)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("fox.", "fox"),
        ("An  Arctic fox .", "Arctic fox"),
        ("the\nfox", "fox"),
        ("anteater", "anteater"),
        ("A", "A"),
        ("a.", "a"),
        (".", "."),
    ],
)
def test_a_name_has_no_article_and_no_full_stop(answer: str, label: str) -> None:
    assert implied_caption("What is this?", answer, None) == Caption(label, None, own_prompt=False)


def test_a_name_that_is_a_label_stays_as_it_is() -> None:
    found = implied_caption("What is this?", "The Shard", "the Gherkin", labels={"The Shard"})
    assert found == Caption("The Shard", "Gherkin", own_prompt=False)


@pytest.mark.parametrize(
    ("question", "thing"),
    [
        ("Is this a fox?", "fox"),
        ("is it an owl", "owl"),
        ("Are these some mushrooms?", "mushrooms"),
        ("Is there a red fox in the image?", "red fox"),
    ],
)
def test_yes_names_what_was_asked_about(question: str, thing: str) -> None:
    assert implied_caption(question, "Yes.", "no") == Caption(thing, None, own_prompt=False)


@pytest.mark.parametrize("wrong", ["yes", None])
def test_no_says_nothing_about_what_it_is(wrong: str | None) -> None:
    assert implied_caption("Is this a fox?", "No", wrong) is None


def test_any_other_question_and_its_answer_are_a_caption_of_their_own() -> None:
    assert implied_caption("What colour\nis it?", "red", "blue") == Caption(
        "What colour is it? red", "What colour is it? blue", own_prompt=True
    )
    assert implied_caption("Does it rain?", "no", None) == Caption(
        "Does it rain? no", "Does it rain? yes", own_prompt=True
    )
    assert implied_caption("Who won?", "the fox", None) == Caption(
        "Who won? the fox", None, own_prompt=True
    )


def test_what_is_longer_than_a_label_may_be_implies_no_caption() -> None:
    assert implied_caption("What is this?", "a" * 201, None) is None
    assert implied_caption("w" * 200 + "?", "red", "blue") is None
