"""One thread at a time does the work, whoever woke it."""

from __future__ import annotations

import logging
import threading

import pytest

from registry.errors import DatabaseUnavailable
from tests.support.waiting import wait_for
from worker.turns import Turns


def test_the_work_is_done_by_one_thread_at_a_time() -> None:
    began, go_on = threading.Event(), threading.Event()
    threads: list[str] = []

    def work() -> None:
        threads.append(threading.current_thread().name)
        began.set()
        assert go_on.wait(30)

    turns = Turns(work)
    turns.run_aside()
    assert began.wait(30)
    assert turns.busy
    turns.run_aside()  # somebody is at it
    nudged = threading.Thread(target=turns.run, name="nudged")
    nudged.start()
    assert threads == ["aside"]
    go_on.set()
    nudged.join(30)
    turns.join()
    assert threads == ["aside", "nudged"]
    assert not turns.busy


class SlowTurn:
    """A lock that is not taken before it is let; it notes who comes for it."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.came: list[str] = []

    def __enter__(self) -> None:
        self.came.append(threading.current_thread().name)
        assert self.let.wait(30)

    def __exit__(self, *_: object) -> None:
        pass

    def locked(self) -> bool:
        return False


def test_one_that_has_begun_and_waits_for_its_turn_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[None] = []
    turns, turn = Turns(lambda: ran.append(None)), SlowTurn()
    monkeypatch.setattr(turns, "_turn", turn)
    for _ in range(3):
        turns.run_aside()
    turn.let.set()
    turns.join()
    assert len(ran) == len(turn.came) == 1


def test_what_fails_aside_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[None] = []

    def work() -> None:
        ran.append(None)
        raise DatabaseUnavailable("somewhere", "it went away")

    turns = Turns(work)
    with caplog.at_level(logging.ERROR, logger="worker"):
        turns.run_aside()
        turns.join()
    assert "it went away" in caplog.text
    wait_for(lambda: not turns.busy, seconds=5, what="the turn to be free")
    turns.run_aside()
    turns.join()
    assert len(ran) == 2
