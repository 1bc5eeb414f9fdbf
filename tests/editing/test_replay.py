"""Which earlier corrections are fitted on again."""

from __future__ import annotations

from collections import Counter

from editing.methods import parse_config
from editing.replay import Replay, draw_replay, plan_replay
from tests.support.edit_task import quick_config


def test_replay_is_balanced_over_classes() -> None:
    labels = ["a"] * 50 + ["b"] * 3 + ["c"] * 50
    drawn = draw_replay(labels, room=23, seed=1)
    assert Counter(labels[position] for position in drawn) == {"a": 10, "b": 3, "c": 10}
    assert drawn == sorted(set(drawn))


def test_replay_takes_everything_that_fits_and_nothing_without_room() -> None:
    assert draw_replay([1, 2, 2], room=500, seed=0) == [0, 1, 2]
    assert draw_replay([1, 2, 2], room=0, seed=0) == []
    assert draw_replay([], room=5, seed=0) == []


def test_replay_depends_on_the_seed_alone() -> None:
    labels = [number % 7 for number in range(70)]
    assert draw_replay(labels, room=20, seed=3) == draw_replay(labels, room=20, seed=3)
    assert draw_replay(labels, room=20, seed=3) != draw_replay(labels, room=20, seed=4)


def test_an_edit_is_refitted_until_it_is_too_large() -> None:
    config = quick_config(max_images=10)
    assert plan_replay("abcab", config, new=5, seed=0) == Replay((0, 1, 2, 3, 4), stacked=False)
    beyond = plan_replay("abcabc", config, new=5, seed=0)
    assert (len(beyond.positions), beyond.stacked) == (5, True)
    alone = plan_replay("abc", quick_config(replay="stack"), new=5, seed=0)
    assert alone == Replay((), stacked=True)


def test_by_default_an_edit_is_refitted_up_to_a_thousand_photos() -> None:
    config = parse_config("lorsu", {})
    assert not plan_replay(range(900), config, new=100, seed=0).stacked
    assert plan_replay(range(901), config, new=100, seed=0).stacked


def test_forgetting_refits_everything_else_however_much() -> None:
    """What is not fitted again from the base would be forgotten too, and the gate refuse it."""
    for replay in ("refit", "stack"):
        config = quick_config(max_images=4, replay=replay)
        plan = plan_replay("abcabc", config, new=2, seed=0, must_refit=True)
        assert plan == Replay(tuple(range(6)), stacked=False)
