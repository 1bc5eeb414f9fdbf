"""From a selection to trainable numbers, and from those to deltas.

Only what is selected has parameters, hence optimizer state: low-rank factors over the selected rows
(equations 6 to 8 of arXiv 2407.16526) and one value for each selected fc1 entry (equation 9). All
start at the identity: `up`, values and offsets are zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from editing.selection import Selection
from encoder.deltas import Delta, Dense, LowRank, Sparse


class Part(Protocol):
    """One weight of the encoder, as a function of few trainable numbers."""

    def weight(self) -> Tensor: ...

    def parameters(self) -> list[Tensor]: ...

    def delta(self) -> Delta: ...


class LowRankPart:
    """W + scale · up @ down on some rows, or on all of them (`rows` None)."""

    def __init__(
        self,
        frozen: Tensor,
        rows: Tensor | None,
        *,
        rank: int,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        """frozen fp32 [out, in]; down starts uniform as LoRA's, up at zero."""
        height, width = frozen.shape
        moved = height if rows is None else rows.numel()
        bound = 1 / math.sqrt(width)
        down = (2 * torch.rand(rank, width, generator=generator) - 1) * bound
        self._frozen = frozen
        self._rows = None if rows is None else rows.to(frozen.device)
        self._scale = scale
        self._down = down.to(frozen.device).requires_grad_()  # [rank, in]
        up = torch.zeros(moved, rank, device=frozen.device)
        self._up = up.requires_grad_()  # [rows, rank]

    def down(self) -> Tensor:
        """[rank, in], the factor that meets the weight's inputs."""
        return self._down

    def weight(self) -> Tensor:
        change = self._scale * (self._up @ self.down())  # in the order of LowRank.apply: same bits
        if self._rows is None:
            return self._frozen + change
        return self._frozen.index_add(0, self._rows, change)

    def parameters(self) -> list[Tensor]:
        return [self._down, self._up]

    def delta(self) -> Delta:
        rows = None if self._rows is None else self._rows.cpu()
        down, up = self.down().detach().cpu(), self._up.detach().cpu()
        return LowRank(down=down, up=up, rows=rows, scale=self._scale)


class SparsePart:
    """W plus one number for each entry of a mask."""

    def __init__(self, frozen: Tensor, mask: Tensor) -> None:
        self._frozen = frozen
        self._mask = mask
        self._entries = mask.flatten().nonzero()[:, 0]
        self._values = torch.zeros(self._entries.numel(), device=frozen.device, requires_grad=True)

    def weight(self) -> Tensor:
        flat = self._frozen.flatten().index_add(0, self._entries, self._values)
        return flat.view_as(self._frozen)

    def parameters(self) -> list[Tensor]:
        return [self._values]

    def delta(self) -> Delta:
        return Sparse(mask=self._mask.cpu(), values=self._values.detach().cpu())


class DensePart:
    """W plus an offset of its own shape."""

    def __init__(self, frozen: Tensor) -> None:
        self._frozen = frozen
        self._offset = torch.zeros_like(frozen, requires_grad=True)

    def weight(self) -> Tensor:
        return self._frozen + self._offset

    def parameters(self) -> list[Tensor]:
        return [self._offset]

    def delta(self) -> Delta:
        return Dense(values=self._offset.detach().cpu())


class Parametrisation:
    """Some weights of a model as functions of trainable numbers, grouped by step size."""

    def __init__(self, parts: Mapping[str, tuple[Part, float]]) -> None:
        """parts: by weight name, with the peak step size of their numbers."""
        self.parts = dict(parts)

    def weights(self) -> dict[str, Tensor]:
        """Every selected weight as edited so far, differentiable in the trainable numbers."""
        return {name: part.weight() for name, (part, _) in self.parts.items()}

    def trained_weights(self) -> dict[str, Tensor]:
        """The same for one backward pass, which hands each weight's gradient on at once.

        Autograd alone would keep the gradients of all of them until it has passed the whole tower.
        """
        return {name: _leaf_of(weight) for name, weight in self.weights().items()}

    def groups(self) -> list[tuple[list[Tensor], float]]:
        """(trainable numbers, peak step size), one group a step size."""
        grouped: dict[float, list[Tensor]] = {}
        for part, rate in self.parts.values():
            grouped.setdefault(rate, []).extend(part.parameters())
        return [(tensors, rate) for rate, tensors in grouped.items()]

    def trainable(self) -> list[Tensor]:
        """Every trainable number, always in the same order; not copies."""
        return [each for part, _ in self.parts.values() for each in part.parameters()]

    def snapshot(self) -> list[Tensor]:
        """A copy of all trainable numbers, for `restore`."""
        return [each.detach().clone() for each in self.trainable()]

    def restore(self, snapshot: Sequence[Tensor]) -> None:
        """Every trainable number as it was then."""
        with torch.no_grad():
            for each, kept in zip(self.trainable(), snapshot, strict=True):
                each.copy_(kept)

    def sizes(self) -> dict[str, int]:
        """How many trainable numbers each weight has, by its name."""
        return {
            name: sum(each.numel() for each in part.parameters())
            for name, (part, _) in self.parts.items()
        }

    def extract(self) -> dict[str, Delta]:
        """The learned change of every selected weight."""
        return {name: part.delta() for name, (part, _) in self.parts.items()}


def _leaf_of(weight: Tensor) -> Tensor:
    """A leaf of the same values; its gradient goes to what `weight` was made of, and nowhere."""
    leaf = weight.detach().requires_grad_()

    def hand_on(leaf: Tensor) -> None:
        gradient, leaf.grad = leaf.grad, None
        torch.autograd.backward(weight, gradient)

    register: Any = leaf.register_post_accumulate_grad_hook
    register(hand_on)
    return leaf


@dataclass(frozen=True)
class Forms:
    """How what is selected moves.

    rate         peak step size of everything dense or of low rank
    sparse_rate  peak step size of single entries
    rank, scale  of every low-rank pair
    """

    rate: float
    sparse_rate: float = 0.0
    rank: int = 1
    scale: float = 1.0

    def at_pace(self, factor: float) -> Forms:
        """The same with other step sizes."""
        return replace(self, rate=factor * self.rate, sparse_rate=factor * self.sparse_rate)


def parametrise(
    frozen: Callable[[str], Tensor],
    selection: Selection,
    forms: Forms,
    *,
    generator: torch.Generator,
) -> Parametrisation:
    """One part for each selected weight, in the selection's order; `frozen` gives it by its name,
    fp32 and without gradient."""
    parts: dict[str, tuple[Part, float]] = {}
    for name, rows in selection.rows.items():
        part = LowRankPart(
            frozen(name), rows, rank=forms.rank, scale=forms.scale, generator=generator
        )
        parts[name] = (part, forms.rate)
    for name, mask in selection.masks.items():
        parts[name] = (SparsePart(frozen(name), mask), forms.sparse_rate)
    for name in selection.dense:
        parts[name] = (DensePart(frozen(name)), forms.rate)
    return Parametrisation(parts)
