"""Options as a tree of tokens: what several of them begin with is there once.

Every node looks at the prompt, at the nodes on its way from there, and at itself, so that one
forward pass over prompt and tree computes each option as if it alone followed the prompt.

Legend: N nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class OptionTree:
    """Nodes in the order in which the options first need them."""

    tokens: list[int]  # [N], the token at each node
    depths: list[int]  # [N], tokens between prompt and node
    paths: list[list[int]]  # for each option the nodes of its tokens

    @property
    def depth(self) -> int:
        """Tokens of the longest option."""
        return max(map(len, self.paths), default=0)

    def visible(self) -> npt.NDArray[np.bool_]:
        """[N, N]: which nodes a node looks at."""
        found = np.eye(len(self.tokens), dtype=np.bool_)
        for path in self.paths:
            found[np.ix_(path, path)] |= np.tri(len(path), dtype=np.bool_)
        return found


def plant(options: Sequence[Sequence[int]]) -> OptionTree:
    """The tree of these options' token ids; equal options share all of their nodes."""
    tokens: list[int] = []
    depths: list[int] = []
    paths: list[list[int]] = []
    known: dict[tuple[int, int], int] = {}  # by parent (-1: the prompt) and token
    for option in options:
        path: list[int] = []
        for token in option:
            branch = (path[-1] if path else -1, token)
            if branch not in known:
                known[branch] = len(tokens)
                tokens.append(token)
                depths.append(len(path))
            path.append(known[branch])
        paths.append(path)
    return OptionTree(tokens, depths, paths)


def grove(options: Sequence[Sequence[int]], limit: int) -> Iterator[tuple[list[int], OptionTree]]:
    """Trees of at most `limit` nodes (or of one option), with the indices of their options.

    Options that begin alike come into one tree.
    """
    order = sorted(range(len(options)), key=lambda index: list(options[index]))
    if sum(map(len, options)) <= limit:
        order = list(range(len(options)))
    while order:
        count, tokens = 0, 0
        while count < len(order) and (count == 0 or tokens + len(options[order[count]]) <= limit):
            tokens += len(options[order[count]])
            count += 1
        chosen, order = order[:count], order[count:]
        yield chosen, plant([options[index] for index in chosen])
