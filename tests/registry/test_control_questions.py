from __future__ import annotations

import pytest

from registry.control_questions import (
    NewControlQuestion,
    add_control_questions,
    list_control_questions,
)
from registry.control_sets import (
    ControlCounts,
    NewControlImage,
    add_control_images,
    control_counts,
    get_control_set,
    put_control_set,
)
from registry.errors import (
    ArtifactMissing,
    ControlQuestionConflict,
    ControlSetMissing,
    LabelSetNeeded,
    QuestionInvalid,
)
from registry.label_sets import put_label_set
from registry.questions import MAX_QUESTION
from tests.support.database import NOON, Memory


@pytest.fixture
def asking(memory: Memory) -> Memory:
    """A control set that has no label set."""
    with memory.writing() as session:
        put_control_set(session, "quiz", label_set=None, budget=0.5, now=NOON)
    return memory


def _ask(memory: Memory, *asked: tuple[str, str, str | None, list[str] | None]) -> int:
    """Each: image contents, question, expected answer, options."""
    with memory.writing() as session:
        new = [
            NewControlQuestion(memory.keep(session, image.encode()), question, answer, options)
            for image, question, answer, options in asked
        ]
        return add_control_questions(session, "quiz", new)


def test_several_questions_may_be_asked_about_one_image(asking: Memory) -> None:
    added = _ask(
        asking,
        ("one", "What is this?", "fox ", ["fox", "dog"]),
        ("one", "Is this a fox?", None, None),
        ("two", "What is this?", "a dog", None),
    )
    assert added == 3
    with asking.reading() as session:
        assert get_control_set(session, "quiz").label_set is None
        assert control_counts(session, ["quiz"])["quiz"] == ControlCounts(0, 0, 3, 2)
        rows = list_control_questions(session, "quiz")
        kept = {(row.question, row.answer, tuple(row.options or ())) for row in rows}
        assert kept == {
            ("What is this?", "fox", ("fox", "dog")),
            ("Is this a fox?", None, ()),
            ("What is this?", "a dog", ()),
        }


def test_the_same_question_again_changes_nothing(asking: Memory) -> None:
    assert _ask(asking, ("one", "What is this?", "fox", None)) == 1
    assert _ask(asking, ("one", " What is this? ", "fox ", None)) == 0
    for answer, options in (("dog", None), (None, None), ("fox", ["fox", "dog"])):
        with pytest.raises(ControlQuestionConflict, match="with another answer") as caught:
            _ask(asking, ("new", "What?", None, None), ("one", "What is this?", answer, options))
        assert caught.value.question == "What is this?"
    with asking.reading() as session:
        assert control_counts(session, ["quiz"])["quiz"].questions == 1


def test_questions_as_long_as_they_may_be_are_kept_apart(asking: Memory) -> None:
    long = "".join(chr(0x4E00 + number) for number in range(MAX_QUESTION - 1))
    assert _ask(asking, ("one", long + "甲", "yes", None), ("one", long + "乙", "no", None)) == 2


def test_what_cannot_be_asked_is_refused(asking: Memory) -> None:
    with pytest.raises(QuestionInvalid, match="not among the options"):
        _ask(asking, ("one", "What is this?", "owl", ["fox", "dog"]))
    with pytest.raises(QuestionInvalid, match="the question is empty"):
        _ask(asking, ("one", " ", "owl", None))
    unkept = [NewControlQuestion("c" * 64, "What?")]
    with pytest.raises(ArtifactMissing), asking.writing() as session:
        add_control_questions(session, "quiz", unkept)
    with pytest.raises(ControlSetMissing), asking.writing() as session:
        add_control_questions(session, "other", [])


def test_only_a_set_with_a_label_set_classifies_images(asking: Memory) -> None:
    with asking.writing() as session:
        image = NewControlImage(asking.keep(session, b"one"))
        with pytest.raises(LabelSetNeeded, match="needs a label set"):
            add_control_images(session, "quiz", [image])
        put_label_set(session, "pets", ["cat"], now=NOON)
        put_control_set(session, "quiz", label_set="pets", now=NOON)
        assert add_control_images(session, "quiz", [image]) == 1
    with pytest.raises(LabelSetNeeded), asking.writing() as session:
        put_control_set(session, "quiz", label_set=None, now=NOON)
