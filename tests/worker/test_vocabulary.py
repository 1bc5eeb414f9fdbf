"""Between which answers a correction decides."""

from __future__ import annotations

from typing import Any

from encoder.classifier import DEFAULT_TEMPLATES
from registry.tables import Correction, LabelSet
from worker.vocabulary import join_answers, possible_answers

EVERYDAY = ("dog", "Stop", "tree")
SIGNS = LabelSet(name="signs", labels=["stop", "yield"], templates=["a {} sign"])


def correction(label: str, **known: Any) -> Correction:
    return Correction(id=label, label=label, **known)


def test_its_label_set_decides() -> None:
    (answers,) = possible_answers(
        [correction("yield", label_set="signs", predicted="stop")], {"signs": SIGNS}, EVERYDAY
    )
    assert answers.labels == ("yield", "stop")
    assert answers.templates == ("a {} sign",)


def test_then_the_labels_that_its_prediction_chose_from() -> None:
    (answers,) = possible_answers(
        [correction("cat", vocabulary=["dog", "Cat"], predicted="dog")], {}, EVERYDAY
    )
    assert answers.labels == ("cat", "dog", "Cat")
    assert answers.templates == tuple(DEFAULT_TEMPLATES)


def test_else_everything_it_could_be_confused_with() -> None:
    first, second = possible_answers(
        [correction("stop", predicted="kite"), correction("zebra")], {"signs": SIGNS}, EVERYDAY
    )
    # "Stop" is another spelling of the first one's own label, not a wrong answer to it.
    assert first.labels == ("stop", "zebra", "kite", "yield", "dog", "tree")
    assert second.labels == ("zebra", "stop", "kite", "dog", "Stop", "tree")


def test_a_label_set_of_one_label_is_no_choice() -> None:
    only = LabelSet(name="only", labels=["kite"], templates=[])
    (answers,) = possible_answers([correction("kite", label_set="only")], {"only": only}, EVERYDAY)
    assert answers.labels == ("kite", "dog", "Stop", "tree")


def test_one_label_under_two_templates_is_two_rows_that_never_meet() -> None:
    plain = correction("stop", vocabulary=["yield"])
    signed = correction("stop", label_set="signs")
    vocabulary = join_answers(possible_answers([plain, signed], {"signs": SIGNS}, EVERYDAY))
    assert [label for label, _ in vocabulary.prompts] == ["stop", "yield", "stop", "yield"]
    assert vocabulary.targets.tolist() == [0, 2]
    assert vocabulary.allowed.tolist() == [
        [True, True, False, False],
        [False, False, True, True],
    ]
    assert vocabulary.label(3) == "yield"


def answered(question: str, answer: str, label: str, **known: Any) -> Correction:
    return correction(label, question=question, answer=answer, **known)


def test_a_caption_of_its_own_stands_against_other_answers_to_its_question() -> None:
    colour = "What colour is it?"
    blue = answered(colour, "blue", f"{colour} blue", wrong_answer="red", predicted=f"{colour} red")
    green = answered(colour, "green", f"{colour} green")
    cat = correction("cat")
    first, second, plain = possible_answers([blue, green, cat], {}, EVERYDAY)
    assert first.labels == (f"{colour} blue", f"{colour} red", f"{colour} green")
    assert second.labels == (f"{colour} green", f"{colour} blue")
    assert first.templates == second.templates == ("{}",)
    assert plain.labels == ("cat", "dog", "Stop", "tree")  # and no sentence about a colour
    (alone,) = possible_answers([green], {}, EVERYDAY)
    assert alone.labels == (f"{colour} green", *EVERYDAY)


def test_an_implied_label_is_asked_for_like_any_other() -> None:
    named = answered("What is this?", "cat", "cat", predicted="dog", wrong_answer="dog")
    (answers,) = possible_answers([named], {}, EVERYDAY)
    assert answers.labels == ("cat", "dog", "Stop", "tree")
    assert answers.templates == tuple(DEFAULT_TEMPLATES)
    given = answered("Is this a dog?", "no", "kite", wrong_answer="yes")
    assert possible_answers([given], {}, EVERYDAY)[0].templates == tuple(DEFAULT_TEMPLATES)


def test_what_implies_no_caption_stands_against_nothing() -> None:
    nothing = answered("Is this a dog?", "no", "", wrong_answer="yes")
    answers, plain = possible_answers([nothing, correction("cat")], {}, EVERYDAY)
    assert answers.labels == ("Is this a dog? no",)
    assert plain.labels == ("cat", "dog", "Stop", "tree")
