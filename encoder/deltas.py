"""The three forms in which a named weight may change.

Every editing method ends in these; nothing that serves asks which method it was. A delta is only
ever *added* to a pristine weight, in fp32, and a new tensor is returned: subtracting one again
would leave about 7 % of fp32 weights changed.

Legend: `*shape` the weight's shape, R rows touched, r rank, I inputs, K weights that moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from encoder.errors import DeltaShape


@dataclass(frozen=True, eq=False)
class Dense:
    """Every entry moves: weight + values."""

    values: Tensor  # float [*shape]

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `DeltaShape` unless this delta fits a weight of `shape`."""
        if tuple(self.values.shape) != shape:
            raise DeltaShape(name, shape, tuple(self.values.shape))

    def apply(self, weight: Tensor) -> Tensor:
        """A new tensor of the weight's dtype and device; fp32 arithmetic."""
        return (weight.detach().float() + _like(self.values, weight)).to(weight.dtype)

    def scaled(self, strength: float) -> Dense:
        """The same change at `strength` times its size (1 = as trained)."""
        return Dense(self.values * strength)

    @property
    def parameters(self) -> int:
        """How many trained numbers it holds."""
        return self.values.numel()

    def tensors(self) -> dict[str, Tensor]:
        return {"values": self.values}


@dataclass(frozen=True, eq=False)
class LowRank:
    """Some rows of a matrix move by a low-rank product: weight[rows] + scale * up @ down.

    The product is computed on the CPU, wherever the weight is: every device rounds a matrix product
    in its own way, and what is merged on a GPU must be, bit by bit, what is merged without one. The
    rest is done entry by entry, which rounds the same everywhere.
    """

    down: Tensor  # float [r, I]
    up: Tensor  # float [R, r]
    rows: Tensor | None = None  # long [R], ascending; None: every row
    scale: float = 1.0  # alpha / rank, times any strength

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `DeltaShape` unless this delta fits a weight of `shape`."""
        touched = self.up.shape[0]
        fits = (
            len(shape) == 2
            and self.down.ndim == self.up.ndim == 2
            and self.down.shape == (self.up.shape[1], shape[1])
            and (touched == shape[0] if self.rows is None else self._rows_fit(touched, shape[0]))
        )
        if not fits:
            raise DeltaShape(name, shape, (touched, self.down.shape[-1]))

    def _rows_fit(self, touched: int, height: int) -> bool:
        rows = self.rows
        if rows is None or tuple(rows.shape) != (touched,):
            return False
        inside = not touched or (int(rows[0]) >= 0 and int(rows[-1]) < height)
        return inside and bool((rows[1:] > rows[:-1]).all())

    def apply(self, weight: Tensor) -> Tensor:
        """A new tensor of the weight's dtype and device; rows outside `rows` are bit-identical."""
        product = self.up.detach().float().cpu() @ self.down.detach().float().cpu()  # [R, I]
        change = (self.scale * product).to(weight.device)
        if self.rows is None:
            return (weight.detach().float() + change).to(weight.dtype)
        rows = self.rows.to(weight.device)
        merged = weight.detach().clone()
        merged[rows] = (weight.detach()[rows].float() + change).to(weight.dtype)
        return merged

    def scaled(self, strength: float) -> LowRank:
        """The same change at `strength` times its size (1 = as trained)."""
        return replace(self, scale=self.scale * strength)

    @property
    def parameters(self) -> int:
        """How many trained numbers it holds."""
        return self.down.numel() + self.up.numel()

    def tensors(self) -> dict[str, Tensor]:
        named = {"down": self.down, "up": self.up}
        return named if self.rows is None else {**named, "rows": self.rows}


@dataclass(frozen=True, eq=False)
class Sparse:
    """Chosen entries move: weight[mask] + values."""

    mask: Tensor  # bool [*shape]
    values: Tensor  # float [K], in the mask's row-major order

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `DeltaShape` unless this delta fits a weight of `shape`."""
        if tuple(self.mask.shape) != shape:
            raise DeltaShape(name, shape, tuple(self.mask.shape))
        chosen = int(self.mask.sum())
        if tuple(self.values.shape) != (chosen,):
            raise DeltaShape(name, (chosen,), tuple(self.values.shape))

    def apply(self, weight: Tensor) -> Tensor:
        """A new tensor of the weight's dtype and device; unmasked entries are bit-identical."""
        mask = self.mask.to(weight.device)
        merged = weight.detach().clone()
        merged[mask] = (merged[mask].float() + _like(self.values, weight)).to(weight.dtype)
        return merged

    def scaled(self, strength: float) -> Sparse:
        """The same change at `strength` times its size (1 = as trained)."""
        return Sparse(self.mask, self.values * strength)

    @property
    def parameters(self) -> int:
        """How many trained numbers it holds."""
        return self.values.numel()

    def tensors(self) -> dict[str, Tensor]:
        return {"mask": self.mask, "values": self.values}


Delta: TypeAlias = Dense | LowRank | Sparse


def _like(values: Tensor, weight: Tensor) -> Tensor:
    return values.detach().to(device=weight.device, dtype=torch.float32)
