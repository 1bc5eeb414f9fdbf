from __future__ import annotations

from datetime import timedelta

import pytest

from registry.control_sets import NewControlImage, add_control_images, put_control_set
from registry.errors import (
    LabelDuplicate,
    LabelInvalid,
    LabelSetMissing,
    LabelsInUse,
    NameInvalid,
)
from registry.label_sets import find_label_set, get_label_set, list_label_sets, put_label_set
from tests.support.database import NOON, Memory, together


def test_a_label_set_keeps_its_order_and_can_be_replaced(memory: Memory) -> None:
    with memory.writing() as session:
        put_label_set(session, "pets", [" dog", "cat"], templates=["a {}"], now=NOON)
        put_label_set(session, "birds", ["owl"], now=NOON)
    later = NOON + timedelta(days=1)
    with memory.writing() as session:
        put_label_set(session, "pets", ["cat", "dog", "fish"], now=later)
    with memory.reading() as session:
        row = get_label_set(session, "pets")
        assert (row.labels, row.templates, row.updated_at) == (["cat", "dog", "fish"], [], later)
        assert [one.name for one in list_label_sets(session)] == ["birds", "pets"]


def test_an_unknown_label_set_is_named(memory: Memory) -> None:
    with memory.reading() as session:
        assert find_label_set(session, "pets") is None
        with pytest.raises(LabelSetMissing) as caught:
            get_label_set(session, "pets")
    assert caught.value.key == "pets"


@pytest.mark.parametrize(
    ("name", "labels", "error"),
    [
        ("a/b", ["cat"], NameInvalid),
        ("pets", [], LabelInvalid),
        ("pets", ["cat", " "], LabelInvalid),
        ("pets", ["cat", "cat "], LabelDuplicate),
    ],
)
def test_a_bad_label_set_is_refused(
    memory: Memory, name: str, labels: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error), memory.writing() as session:
        put_label_set(session, name, labels, now=NOON)
    with memory.reading() as session:
        assert list_label_sets(session) == []


def test_labels_of_control_images_may_not_be_lost(memory: Memory) -> None:
    with memory.writing() as session:
        put_label_set(session, "pets", ["cat", "dog", "fish", "owl"], now=NOON)
        put_control_set(session, "control", label_set="pets", now=NOON)
        labels = {b"one": "fish", b"two": "cat", b"three": "owl", b"four": None}
        images = [NewControlImage(memory.keep(session, one), name) for one, name in labels.items()]
        add_control_images(session, "control", images)
    with pytest.raises(LabelsInUse) as caught, memory.writing() as session:
        put_label_set(session, "pets", ["cat", "dog"], now=NOON)
    assert (caught.value.control_set, caught.value.labels) == ("control", ("fish", "owl"))
    assert "'control'" in str(caught.value)
    assert "'fish', 'owl'" in str(caught.value)
    with memory.writing() as session:
        put_label_set(session, "pets", ["owl", "fish", "cat", "cow"], now=NOON)
        put_label_set(session, "birds", ["owl"], now=NOON)
    with memory.reading() as session:
        assert get_label_set(session, "pets").labels == ["owl", "fish", "cat", "cow"]


def test_many_may_put_the_same_set_at_once(memory: Memory) -> None:
    def put(index: int) -> None:
        with memory.writing() as session:
            put_label_set(session, "pets", [f"label {index}"], now=NOON)

    assert together(5, put) == [None] * 5
