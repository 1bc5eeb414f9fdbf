from __future__ import annotations

import pytest

from supervisor.errors import DiesAtOnce
from supervisor.restarts import RestartPolicy, RestartRecord

POLICY = RestartPolicy(first_delay=1.0, longest_delay=4.0, settled=30.0, deaths_at_once=3)


def test_delays_double_up_to_the_longest() -> None:
    record = RestartRecord(POLICY)
    delays = [record.delay_after_death("worker", -9, now=float(n)) for n in range(5)]
    assert delays == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_gives_up_when_a_process_keeps_refusing_to_run() -> None:
    record = RestartRecord(POLICY)
    record.delay_after_death("app", 1, now=1.0)
    record.delay_after_death("app", 1, now=2.0)
    with pytest.raises(DiesAtOnce, match=r"app ended 3 times .* exit code 1"):
        record.delay_after_death("app", 1, now=3.0)


def test_a_service_that_has_served_is_tried_for_as_long_as_it_takes() -> None:
    record = RestartRecord(POLICY)
    delays = [
        record.delay_after_death("worker", 1, now=float(n), has_served=True) for n in range(6)
    ]
    assert delays == [1.0, 2.0, 4.0, 4.0, 4.0, 4.0]


def test_a_process_that_settled_starts_with_a_clean_slate() -> None:
    record = RestartRecord(POLICY)
    for death in range(6):
        record.started(now=100.0 * death)
        assert record.delay_after_death("app", 1, now=100.0 * death + 50.0) == 1.0
