"""What a replica says of itself, on a clock that the test moves."""

from __future__ import annotations

import pytest

from app import standing
from app.errors import ReplicaBehind
from app.metrics import Metrics
from app.standing import FIRST_PAUSE, LONGEST_PAUSE, SILENT_AFTER, Standing
from registry.errors import ArtifactMissing, DatabaseUnavailable
from registry.tables import Promotion

GRACE = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(standing, "time", clock)
    return clock


@pytest.fixture
def replica(clock: Clock) -> Standing:
    assert clock.now
    return Standing(GRACE, Metrics())


def _promotion(number: int, version: int) -> Promotion:
    return Promotion(id=number, version=version)


def test_a_broken_promotion_is_tried_again_at_growing_intervals(
    replica: Standing, clock: Clock
) -> None:
    broken, pauses = _promotion(2, 5), []
    for _ in range(8):
        assert replica.may_try(broken)
        replica.fail(broken, ArtifactMissing("f" * 64))
        assert replica.setback is not None
        pauses.append(replica.setback.pause)
        clock.now += replica.setback.pause * 0.99
        assert not replica.may_try(broken)
        clock.now += replica.setback.pause * 0.02
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert sorted(pauses) == pauses


def test_a_new_promotion_is_tried_at_once_and_does_not_begin_the_grace_anew(
    replica: Standing, clock: Clock
) -> None:
    replica.fail(_promotion(2, 5), ArtifactMissing("f" * 64))
    clock.now += GRACE - 1
    replica.check(0)
    later = _promotion(3, 6)
    assert replica.may_try(later)
    replica.fail(later, ArtifactMissing("f" * 64))
    clock.now += 1
    with pytest.raises(ReplicaBehind) as behind:
        replica.check(0)
    assert (behind.value.should_serve, behind.value.serves) == (6, 0)
    replica.serves()
    replica.check(6)


def test_a_database_that_is_away_ends_readiness_at_once_and_keeps_its_address(
    replica: Standing,
) -> None:
    outage = DatabaseUnavailable("postgresql://somebody@somewhere/emend", "it went away")
    replica.asks()
    replica.heard(outage)
    with pytest.raises(DatabaseUnavailable) as told:
        replica.check(0)
    assert "somewhere" not in str(told.value)
    replica.asks()
    replica.heard()
    replica.check(0)


def test_a_database_that_does_not_answer_a_look_ends_readiness_soon(
    replica: Standing, clock: Clock
) -> None:
    replica.asks()
    clock.now += SILENT_AFTER
    replica.check(0)
    clock.now += 0.1
    with pytest.raises(DatabaseUnavailable, match="not answered"):
        replica.check(0)
    replica.heard()
    replica.check(0)
