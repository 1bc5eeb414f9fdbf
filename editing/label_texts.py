"""The labels' side of a comparison: text features that stand, or that an edit moves.

Where the text tower moves, reading all labels in every step would cost more than the step itself:
V labels under t templates are V · t passes through it. So a step reads those that matter for its
batch, and takes the others as they were last read. Scoring and the early stop need all of them:
then all are read at once, and their gradients pass the text tower once, whatever the number of
batches.

Legend: V labels, K of them, P texts (labels times templates), L tokens of one, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from editing.text import TextFunction
from encoder.classifier import check_templates, label_texts
from encoder.clip import Tokenizer
from encoder.prompts import Prompt

TEXTS_AT_ONCE = 64
"""Through the text tower, as far as a label's templates allow: what a graph keeps is so bounded."""
Choose: TypeAlias = Callable[[Tensor], Tensor]
"""From the features of all labels [V, E], without gradient, to the rows that matter, long [K]."""


class LabelTexts(Protocol):
    """Text features of a task's labels under an edit's weights."""

    def read(self, weights: Mapping[str, Tensor], choose: Choose, /) -> Tensor:
        """fp32 [V, E], unit rows."""

    def whole(
        self, weights: Mapping[str, Tensor], tell: Callable[[], None], /
    ) -> AbstractContextManager[None]:
        """Within it `read` gives every label as these weights have it, and at its end gradients
        have reached the weights. `tell` is called between chunks."""


class FrozenTexts:
    """Where the text tower stays as it is."""

    def __init__(self, features: Tensor) -> None:
        """fp32 [V, E]"""
        self._features = features

    def read(self, _weights: Mapping[str, Tensor], _choose: Choose, /) -> Tensor:
        return self._features

    def whole(
        self, _weights: Mapping[str, Tensor], _tell: Callable[[], None], /
    ) -> AbstractContextManager[None]:
        return nullcontext()


class MovingTexts:
    """Where it moves. `read` lets gradients through to the rows that were chosen."""

    def __init__(
        self,
        function: TextFunction,
        tokenizer: Tokenizer,
        prompts: Sequence[Prompt],
        features: Tensor,
    ) -> None:
        """`features` are those of the encoder that is edited. Raises ClassifierError."""
        self._function = function
        self._tokens = [
            tokenizer(label_texts(label, check_templates(templates)))  # long [t, L]
            for label, templates in prompts
        ]
        self._present = features  # as last read, without gradient
        self._whole: Tensor | None = None

    def read(self, weights: Mapping[str, Tensor], choose: Choose, /) -> Tensor:
        if self._whole is not None:
            return self._whole
        rows = choose(self._present)
        found = self._read_rows(rows, weights)
        self._present = self._present.index_copy(0, rows, found.detach())
        return self._present.index_copy(0, rows, found)

    @contextmanager
    def whole(self, weights: Mapping[str, Tensor], tell: Callable[[], None], /) -> Iterator[None]:
        chunks = self._chunks(torch.arange(len(self._tokens), device=self._present.device))
        found = []
        with torch.no_grad():
            for rows in chunks:
                tell()
                found.append(self._features(rows, weights))
        self._present = torch.cat(found)
        leaf = self._whole = self._present.clone().requires_grad_()
        try:
            yield
        finally:
            self._whole = None
        if leaf.grad is None:
            return
        for rows in chunks:
            tell()
            features = self._features(rows, weights)
            if features.requires_grad:
                torch.autograd.backward(features, leaf.grad[rows])

    def _read_rows(self, rows: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """fp32 [K, E]. What does not fit into one chunk is computed again for its gradient."""
        chunks = self._chunks(rows)
        if len(chunks) == 1:
            return self._features(rows, weights)
        parts = [
            checkpoint(
                self._features, chunk, weights, use_reentrant=False, preserve_rng_state=False
            )
            for chunk in chunks
        ]
        return torch.cat(parts)

    def _features(self, rows: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """fp32 [K, E]: unit means over templates, as encoder.classifier has them."""
        tokens = [self._tokens[row] for row in rows.tolist()]
        counts = [len(texts) for texts in tokens]
        each = self._function(torch.cat(tokens), weights)  # [P, E]
        means = [part.mean(dim=0) for part in torch.split(each, counts)]
        return F.normalize(torch.stack(means), dim=-1)

    def _chunks(self, rows: Tensor) -> list[Tensor]:
        """At least one label each, and texts up to the bound."""
        chunks: list[list[int]] = [[]]
        texts = 0
        for row in rows.tolist():
            more = len(self._tokens[row])
            if chunks[-1] and texts + more > TEXTS_AT_ONCE:
                chunks.append([])
                texts = 0
            chunks[-1].append(row)
            texts += more
        return [torch.tensor(chunk, device=rows.device) for chunk in chunks]
