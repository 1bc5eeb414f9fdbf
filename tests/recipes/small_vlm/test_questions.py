"""What is asked about a picture, and what is expected."""

import random
from collections import Counter

import pytest

from recipes.small_vlm.kinds import kinds
from recipes.small_vlm.pictures import DIGITS
from recipes.small_vlm.questions import OPTIONS, Questions

THINGS = ("goldfish", "Persian cat", "tabby cat", "orange", "lemon", "sunglasses", "umbrella")
SIGNS = ("stop", "give way", "no entry")


@pytest.fixture
def questions() -> Questions:
    return Questions((*THINGS, *DIGITS, *SIGNS), frozenset(SIGNS), ("violin", "kayak"))


@pytest.mark.parametrize("label", ["Persian cat", "seven", "stop"])
def test_as_many_questions_are_answered_yes_as_no(questions: Questions, label: str) -> None:
    draw = random.Random(0)
    answers = Counter(a.answer for _ in range(50) for a in questions.about(label, draw))
    assert answers["yes"] == answers["no"] == 100


def test_a_question_answered_no_never_names_the_label(questions: Questions) -> None:
    draw = random.Random(0)
    asked = [questions.yes_no("lemon", draw, yes=False).question for _ in range(300)]
    assert not any("lemon" in question for question in asked)
    assert any("an orange" in question for question in asked), "no hard negative"
    assert not any("a fruit" in question for question in asked), "a lemon is a fruit"


def test_a_question_answered_yes_names_the_label_or_its_kind(questions: Questions) -> None:
    draw = random.Random(0)
    asked = [questions.yes_no("Persian cat", draw, yes=True).question for _ in range(300)]
    assert all("a Persian cat" in q or "a cat" in q or "an animal" in q for q in asked)


def test_five_different_options_hold_the_label_once(questions: Questions) -> None:
    draw = random.Random(0)
    places = Counter[int]()
    for _ in range(200):
        options = questions.options("goldfish", draw)
        assert len(set(options)) == len(options) == OPTIONS
        places[options.index("goldfish")] += 1
    assert len(places) == OPTIONS, "the label is always in the same place"


def test_distractors_come_from_the_names_given(questions: Questions) -> None:
    options = questions.options("stop", random.Random(0), among=(*SIGNS, *DIGITS[:2]))
    assert set(options) == {*SIGNS, *DIGITS[:2]}


def test_the_same_seed_asks_the_same(questions: Questions) -> None:
    once, again, other = (
        [questions.about("orange", draw) for _ in range(5)]
        for draw in (random.Random(3), random.Random(3), random.Random(4))
    )
    assert once == again
    assert once != other


def test_articles_fit(questions: Questions) -> None:
    assert questions.phrase("orange") == "an orange"
    assert questions.phrase("sunglasses") == "sunglasses"
    assert questions.phrase("seven") == "the number seven"
    assert questions.phrase("stop") == 'a "stop" sign'


def test_a_name_of_no_known_kind_is_refused() -> None:
    with pytest.raises(KeyError, match="kayak"):
        kinds(["kayak"])
