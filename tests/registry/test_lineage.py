"""The live version's ancestry, remembered; what was learnt in it, and what must be forgotten."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from registry.artifacts import release_artifacts
from registry.corrections import forget
from registry.edit_jobs import unapplied, unapplied_among
from registry.errors import AdapterMissing
from registry.lineage import follow_live, knows_forgotten, learnt_corrections
from registry.promotions import live_promotion, promote
from registry.tables import LiveLineage
from tests.support.database import NOON, Memory


def _live(memory: Memory, version: int) -> None:
    with memory.writing() as session:
        replaced = live_promotion(session).id
        promote(session, version, replaces=replaced, reason="by hand", now=NOON)


def _followed(memory: Memory) -> list[int]:
    with memory.writing() as session:
        follow_live(session, live_promotion(session).version)
        return sorted(session.scalars(select(LiveLineage.version)))


def _forget(memory: Memory, correction_id: str) -> None:
    with memory.writing() as session:
        images = forget(session, correction_id, now=NOON)
    with memory.writing() as session:
        release_artifacts(session, memory.store, images)


def test_the_lineage_follows_edits_rollbacks_and_branches(memory: Memory) -> None:
    assert _followed(memory) == []
    for number in range(3):
        memory.edit({f"image {number}": "cat"})
    assert _followed(memory) == [1, 2, 3]
    memory.edit({"refused": "dog"}, verdict="rejected")
    assert _followed(memory) == [1, 2, 3]
    _live(memory, 1)
    assert _followed(memory) == [1]
    memory.edit({"branch": "dog"})
    assert _followed(memory) == [1, 5]
    _live(memory, 3)
    assert _followed(memory) == [1, 2, 3]
    _live(memory, 4)  # the refused one, by hand
    assert _followed(memory) == [1, 2, 3, 4]
    _live(memory, 0)
    assert _followed(memory) == []


def test_it_catches_up_with_what_nobody_told_it(memory: Memory) -> None:
    """As after an upgrade: promotions were made by a release that knew no such table."""
    for number in range(120):
        memory.edit({f"image {number}": "cat"})
    assert _followed(memory) == list(range(1, 121))
    _live(memory, 50)
    memory.edit({"branch": "dog"})
    memory.edit({"further": "dog"})
    assert _followed(memory) == [*range(1, 51), 121, 122]


def test_only_those_asked_for_are_told_unapplied(memory: Memory) -> None:
    memory.edit({"one": "cat"})
    second = memory.edit({"two": "dog", "three": "dog"})
    _live(memory, 1)
    with memory.writing() as session:
        both = unapplied(session, 1)
        assert len(both) == 2
        assert unapplied_among(session, 1, both[1:]) == both[1:]
        assert unapplied_among(session, 1, ["f" * 32]) == []
        assert unapplied(session, second) == []


def test_what_was_learnt_is_what_the_lineage_was_fitted_on_and_still_stands(
    memory: Memory,
) -> None:
    memory.edit({"one": "cat", "two": "cat"})
    second = memory.edit({"three": "dog"}, stacked=True)
    memory.edit({"refused": "dog"}, verdict="rejected")
    with memory.reading() as session:
        rows = learnt_corrections(session, second)
        assert [row.label for row in rows] == ["cat", "cat", "dog"]
        assert learnt_corrections(session, 0) == []
        assert [row.label for row in learnt_corrections(session, 1)] == ["cat", "cat"]
        with pytest.raises(AdapterMissing):
            learnt_corrections(session, 9)
    _forget(memory, rows[0].id)
    memory.submit({"two": "bird"}, replace=True)
    with memory.reading() as session:
        assert [row.label for row in learnt_corrections(session, second)] == ["dog"]


def test_a_version_knows_what_was_forgotten_until_it_is_fitted_from_the_base(
    memory: Memory,
) -> None:
    memory.edit({"one": "cat", "two": "dog"})
    memory.edit({"three": "cat"}, stacked=True)
    with memory.reading() as session:
        forgotten = learnt_corrections(session, 1)[0].id
        assert not knows_forgotten(session, 2)
    _forget(memory, forgotten)
    memory.edit({"four": "cat"}, stacked=True)
    memory.edit({"five": "cat"})
    with memory.reading() as session:
        told = [knows_forgotten(session, version) for version in range(5)]
    assert told == [False, True, True, True, False]
