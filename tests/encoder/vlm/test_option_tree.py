from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoder.vlm.option_tree import grove, plant

OPTIONS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=12)


@given(OPTIONS)
def test_each_node_sees_the_way_to_it_and_nothing_else(options: list[list[int]]) -> None:
    tree = plant(options)
    visible = tree.visible()
    for option, path in zip(options, tree.paths, strict=True):
        assert [tree.tokens[node] for node in path] == option
        for depth, node in enumerate(path):
            assert tree.depths[node] == depth
            assert sorted(np.flatnonzero(visible[node])) == sorted(path[: depth + 1])


def test_equal_beginnings_are_there_once() -> None:
    tree = plant([[5, 6, 7], [5, 6], [5, 8], [6]])
    assert tree.tokens == [5, 6, 7, 8, 6]
    assert tree.paths == [[0, 1, 2], [0, 1], [0, 3], [4]]
    assert tree.depth == 3


@given(OPTIONS, st.integers(1, 20))
def test_a_grove_has_every_option_once_in_trees_of_limited_size(
    options: list[list[int]], limit: int
) -> None:
    trees = list(grove(options, limit))
    assert sorted(index for chosen, _ in trees for index in chosen) == list(range(len(options)))
    for chosen, tree in trees:
        assert len(tree.tokens) <= limit or len(chosen) == 1
        for index, path in zip(chosen, tree.paths, strict=True):
            assert [tree.tokens[node] for node in path] == options[index]


def test_options_that_fit_stay_in_one_tree_and_in_order() -> None:
    ((chosen, tree),) = grove([[2, 1], [1]], 3)
    assert chosen == [0, 1]
    assert tree.tokens == [2, 1, 1]
