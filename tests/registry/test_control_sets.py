from __future__ import annotations

import pytest

from registry.control_sets import (
    ControlCounts,
    NewControlImage,
    add_control_images,
    control_counts,
    get_control_set,
    list_control_images,
    list_control_sets,
    put_control_set,
)
from registry.errors import (
    ArtifactMissing,
    BudgetInvalid,
    ControlImageConflict,
    ControlSetMissing,
    LabelOutsideSet,
    LabelSetMissing,
    NameInvalid,
)
from registry.label_sets import put_label_set
from tests.support.database import NOON, Memory


@pytest.fixture
def pets(memory: Memory) -> Memory:
    with memory.writing() as session:
        put_label_set(session, "pets", ["cat", "dog"], now=NOON)
        put_label_set(session, "birds", ["owl"], now=NOON)
        put_control_set(session, "control", label_set="pets", budget=0.5, now=NOON)
    return memory


def _add(memory: Memory, images: dict[str, str | None]) -> int:
    with memory.writing() as session:
        new = [
            NewControlImage(memory.keep(session, image.encode()), label)
            for image, label in images.items()
        ]
        return add_control_images(session, "control", new)


def test_images_with_and_without_labels_are_counted(pets: Memory) -> None:
    assert _add(pets, {"one": " cat ", "two": None}) == 2
    assert _add(pets, {"one": "cat", "three": None}) == 1
    with pets.reading() as session:
        counts = control_counts(session, ["control", "other"])
        assert counts == {"control": ControlCounts(3, 1), "other": ControlCounts(0, 0)}
        labels = [row.label for row in list_control_images(session, "control")]
        assert sorted(labels, key=str) == [None, None, "cat"]
        assert [row.name for row in list_control_sets(session)] == ["control"]
        assert get_control_set(session, "control").budget == 0.5


def test_images_are_added_all_or_none(pets: Memory) -> None:
    _add(pets, {"one": "cat"})
    with pytest.raises(ControlImageConflict) as caught:
        _add(pets, {"new": None, "one": "dog"})
    assert caught.value.label == "cat"
    with pytest.raises(LabelOutsideSet):
        _add(pets, {"new": None, "two": "owl"})
    with pytest.raises(ArtifactMissing), pets.writing() as session:
        add_control_images(session, "control", [NewControlImage("c" * 64)])
    with pets.reading() as session:
        assert control_counts(session, ["control"])["control"].images == 1


def test_the_budget_and_label_set_can_be_changed(pets: Memory) -> None:
    with pets.writing() as session:
        put_control_set(session, "control", label_set="birds", now=NOON)
    with pets.reading() as session:
        row = get_control_set(session, "control")
        assert (row.label_set, row.budget) == ("birds", None)
    _add(pets, {"one": "owl"})
    with pytest.raises(LabelOutsideSet) as caught, pets.writing() as session:
        put_control_set(session, "control", label_set="pets", now=NOON)
    assert caught.value.label == "owl"


@pytest.mark.parametrize("budget", [-0.1, 101.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_number_of_points_is_refused(pets: Memory, budget: float) -> None:
    with pytest.raises(BudgetInvalid), pets.writing() as session:
        put_control_set(session, "control", label_set="pets", budget=budget, now=NOON)


def test_unknown_sets_are_named(pets: Memory) -> None:
    with pets.writing() as session:
        with pytest.raises(ControlSetMissing) as caught:
            get_control_set(session, "nothing")
        assert caught.value.key == "nothing"
        with pytest.raises(ControlSetMissing):
            add_control_images(session, "nothing", [])
        with pytest.raises(LabelSetMissing):
            put_control_set(session, "more", label_set="nothing", now=NOON)
        with pytest.raises(NameInvalid):
            put_control_set(session, "a/b", label_set="pets", now=NOON)
