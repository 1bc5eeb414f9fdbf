from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from registry.adapters import get_adapter
from registry.errors import AdapterMissing, CursorInvalid, PromotionConflict
from registry.promotions import list_promotions, live_promotion, promote, promotions_of
from registry.tables import Promotion
from tests.support.database import NOON, Memory, together


def _promote(memory: Memory, version: int, replaces: int) -> int:
    with memory.writing() as session:
        return promote(session, version, replaces=replaces, reason="test", now=NOON).id


def test_the_newest_promotion_is_live_and_rollback_is_a_promotion(memory: Memory) -> None:
    version = memory.edit({"a photo": "cat"})
    with memory.reading() as session:
        live = live_promotion(session)
        assert (live.version, live.replaces, live.reason) == (version, 1, "the gate")
    _promote(memory, 0, live.id)
    with memory.reading() as session:
        assert live_promotion(session).version == 0
        history = [row.version for row in list_promotions(session).items]
        assert history == [0, version, 0]
        by_version = promotions_of(session, [0, version])
        assert [row.id for row in by_version[0]] == [1, 3]
        assert [row.id for row in by_version[version]] == [2]


def test_a_promotion_that_replaces_one_no_longer_live_is_refused(memory: Memory) -> None:
    version = memory.edit({"a photo": "cat"})
    with pytest.raises(PromotionConflict) as caught:
        _promote(memory, 0, replaces=1)
    assert (caught.value.expected, caught.value.found) == (1, 2)
    with memory.reading() as session:
        assert live_promotion(session).version == version


def test_an_unknown_version_cannot_be_promoted(memory: Memory) -> None:
    with pytest.raises(AdapterMissing) as caught:
        _promote(memory, 7, replaces=1)
    assert caught.value.key == 7


def test_of_many_parallel_promotions_exactly_one_wins(memory: Memory) -> None:
    for replaces in range(1, 6):
        outcomes = together(6, lambda _, seen=replaces: _promote(memory, 0, seen))  # type: ignore[misc]
        won = [one for one in outcomes if isinstance(one, int)]
        lost = [one for one in outcomes if isinstance(one, PromotionConflict)]
        assert won == [replaces + 1]
        assert len(lost) == 5
        assert {conflict.found for conflict in lost} == {replaces + 1}
    with memory.reading() as session:
        chain = list_promotions(session, limit=100).items
        assert [row.replaces for row in chain] == [5, 4, 3, 2, 1, None]


@pytest.mark.parametrize(
    ("number", "replaces"), [(5, 1), (2, None), (1, None)], ids=["gap", "second root", "twice"]
)
def test_the_database_itself_refuses_a_forked_history(
    memory: Memory, number: int, replaces: int | None
) -> None:
    fork = Promotion(id=number, version=0, replaces=replaces, reason="fork", created_at=NOON)
    with pytest.raises(IntegrityError), memory.writing() as session:
        session.add(fork)


def test_the_history_pages_by_cursor(memory: Memory) -> None:
    for replaces in range(1, 5):
        _promote(memory, 0, replaces)
    seen: list[int] = []
    cursor: str | None = None
    with memory.reading() as session:
        while True:
            page = list_promotions(session, cursor=cursor, limit=2)
            seen += [row.id for row in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [5, 4, 3, 2, 1]
        with pytest.raises(CursorInvalid):
            list_promotions(session, cursor="1; drop table")


def test_there_is_no_live_promotion_before_the_base(bare_memory: Memory) -> None:
    with bare_memory.reading() as session:
        with pytest.raises(AdapterMissing):
            live_promotion(session)
        with pytest.raises(AdapterMissing):
            get_adapter(session, 0)
