"""Answers that are late, undocumented or out of date are found; excuses are narrow."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.ledger import Answer
from chaos.manners import answers_are_documented, answers_are_in_time, versions_are_live
from chaos.stack import POSTGRES, Window
from tests.chaos.history import NOON, answer, good_evidence

PROMOTIONS = good_evidence().promotions
SEEN = {row.id: row.at + 0.05 for row in PROMOTIONS}
PROBLEM = "urn:emend:problem:database-unavailable"
DOWN = Window("api-1", NOON - 1, NOON + 1)
PAUSED = Window("api-1", NOON - 1, NOON + 20)


def stale(version: int | None, at: float, *windows: Window) -> int:
    one = answer(question="live", version=version, at=at)
    return len(list(versions_are_live([one], PROMOTIONS, SEEN, windows)))


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"status": 503, "problem": PROBLEM, "retry_after": "2"},
        {"status": 507, "problem": PROBLEM, "method": "POST"},
        {"status": 409, "expected": frozenset({202, 409})},
    ],
)
def test_documented_answers(facts: dict[str, Any]) -> None:
    assert list(answers_are_documented([answer(**facts)], [])) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"status": 500, "problem": "urn:emend:problem:unexpected"},
        {"status": 503, "problem": PROBLEM},
        {"status": 503, "retry_after": "2"},
        {"status": 507, "method": "POST"},
        {"status": 507, "problem": PROBLEM, "method": "GET"},
        {"status": 404, "problem": "urn:emend:problem:correction-unknown"},
        {"status": None, "trouble": "ReadError: connection reset"},
    ],
)
def test_undocumented_answers(facts: dict[str, Any]) -> None:
    assert len(list(answers_are_documented([answer(**facts)], []))) == 1


def test_no_answer_is_excused_by_its_own_api_being_down_only() -> None:
    broken = answer(status=None, trouble="ConnectError: refused")
    assert list(answers_are_documented([broken], [DOWN])) == []
    other = Window("api-2", NOON - 1, None)
    earlier = Window("api-1", NOON - 10, NOON - 5)
    assert len(list(answers_are_documented([broken], [other, earlier]))) == 1


def test_an_answer_in_over_five_seconds_hung() -> None:
    def late(one: Answer, *windows: Window) -> int:
        return len(list(answers_are_in_time([one], windows)))

    assert late(answer(seconds=4.9)) == 0
    assert late(answer(seconds=5.1, status=503)) == 1
    assert late(answer(seconds=5.1), Window(POSTGRES, NOON, None)) == 1
    assert late(answer(seconds=12.0, status=None), PAUSED) == 0


def test_a_version_is_served_until_a_second_after_the_next_promotion() -> None:
    # Version 1 is live from NOON - 10 to NOON, version 0 to NOON + 5, version 1 to NOON + 10.
    assert stale(1, NOON - 5) == 0
    assert stale(1, NOON + 0.9) == 0
    assert stale(1, NOON + 1.2) == 1
    assert stale(1, NOON + 7) == 0
    assert stale(0, NOON + 7) == 1
    assert stale(3, NOON + 99) == 0


def test_a_version_that_was_not_live_yet_is_found() -> None:
    assert stale(3, NOON + 5) == 1
    assert stale(2, NOON + 5) == 1


def test_who_is_cut_off_may_answer_by_an_old_version_for_so_long() -> None:
    gone = Window(POSTGRES, NOON, NOON + 4)
    assert stale(1, NOON + 3, gone) == 0
    assert stale(1, NOON + 4.9, gone) == 0
    assert stale(3, NOON + 4, gone) == 1
    assert stale(0, NOON + 9, gone) == 1
    assert stale(1, NOON + 3, Window("api-2", NOON, NOON + 4)) == 1
