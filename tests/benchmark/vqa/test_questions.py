"""Classification sets as questions with options."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmark.vqa.questions import (
    LabelledImage,
    TooFewLabels,
    UnknownLabel,
    choice_questions,
    listed,
    subsample,
)

LABELS = [f"thing {number}" for number in range(8)]


def examples(count: int = 40) -> list[LabelledImage]:
    return [
        LabelledImage(f"{number:03}.png", b"", LABELS[number % len(LABELS)])
        for number in range(count)
    ]


def test_every_question_offers_its_answer_once_among_five_different_labels() -> None:
    asked = choice_questions(examples(), LABELS, question="What is this?", seed=1)
    assert len(asked) == 40
    for question, example in zip(asked, examples(), strict=True):
        assert question.options[question.answer] == example.label
        assert len(set(question.options)) == len(question.options) == 5
        assert set(question.options) <= set(LABELS)


def test_the_right_option_stands_in_every_place() -> None:
    asked = choice_questions(examples(400), LABELS, question="What is this?", seed=0)
    places = Counter(question.answer for question in asked)
    assert set(places) == set(range(5))
    assert min(places.values()) > 40


def test_options_depend_on_seed_and_image_and_not_on_what_else_is_asked() -> None:
    everything = choice_questions(examples(), LABELS, question="?", seed=1)
    some = choice_questions(reversed(examples()[5:9]), LABELS, question="?", seed=1)
    assert list(reversed(some)) == everything[5:9]
    other_seed = choice_questions(examples(), LABELS, question="?", seed=2)
    assert [each.options for each in other_seed] != [each.options for each in everything]


def test_equal_names_of_two_classes_are_one_label() -> None:
    labels = [*LABELS, LABELS[0], LABELS[0]]
    for question in choice_questions(examples(), labels, question="?", seed=0):
        assert len(set(question.options)) == 5


def test_a_question_may_list_its_options() -> None:
    [asked] = choice_questions(examples(1), LABELS, question="Is it {options}?", seed=0)
    assert asked.question == f"Is it {listed(asked.options)}?"
    assert listed(["a", "b", "c"]) == "a, b or c"
    assert listed(["a"]) == "a"


def test_too_few_labels_and_foreign_labels_are_refused() -> None:
    with pytest.raises(TooFewLabels, match="4 different labels"):
        choice_questions(examples(), [*LABELS[:4], LABELS[0]], question="?", seed=0)
    with pytest.raises(UnknownLabel, match=r"007.png.*thing 7"):
        choice_questions(examples(), LABELS[:7], question="?", seed=0)


def test_a_subsample_has_equally_many_of_each_label_in_the_former_order() -> None:
    drawn = subsample(examples(80), each=3, seed=0)
    assert Counter(each.label for each in drawn) == dict.fromkeys(LABELS, 3)
    assert [each.key for each in drawn] == sorted(each.key for each in drawn)
    assert subsample(examples(80), each=3, seed=0) == drawn
    assert subsample(examples(80), each=3, seed=1) != drawn
    assert len(subsample(examples(16), each=3, seed=0)) == 16


def test_an_image_is_bytes_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"pixels")
    of_file = LabelledImage("a", file, LABELS[0])
    of_bytes = LabelledImage("a", b"pixels", LABELS[0])
    for question in choice_questions([of_file, of_bytes], LABELS, question="?", seed=0):
        assert question.image_bytes() == b"pixels"
