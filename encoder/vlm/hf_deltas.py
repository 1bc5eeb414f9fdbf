"""An adapter's deltas under the names of transformers' CLIP, exactly.

Merging the mapped deltas into a mapped state gives what mapping the merged state gives, bit by bit.
Entry by entry that is plain; a low-rank product of some rows may round differently from the same
rows of the whole product (small matrices take other paths through the library), so each part is
compared, and one that differs is handed over as the values themselves.

Names are those of CLIPVisionModelWithProjection and CLIPModel: `vision_model.…`, and
`visual_projection.weight`, which is open_clip's `visual.proj` transposed.

Legend: W width, E embedding, R rows touched, r rank.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from encoder.clip import Encoder
from encoder.deltas import Delta, Dense, LowRank, Sparse
from encoder.errors import UnknownParameter
from encoder.vlm.hf_names import PROJECTION, hf_config, hf_names

VISION_MODEL = "vision_model."
VISUAL_PROJECTION = "visual_projection.weight"


def hf_deltas(encoder: Encoder, deltas: Mapping[str, Delta]) -> dict[str, Delta]:
    """Deltas of this encoder's weights under transformers' names; q, k or v that do not move have
    none. Views where the form allows it.

    Raises NamesUnmappable (another layout, or weights outside the vision tower), UnknownParameter
    or DeltaShape.
    """
    hf_config(encoder)  # refuses towers that transformers' CLIP cannot be
    shapes = {name: tuple(p.shape) for name, p in encoder.model.named_parameters()}
    mapped: dict[str, Delta] = {}
    for name, delta in deltas.items():
        if name not in shapes:
            raise UnknownParameter(name)
        delta.check(name, shapes[name])
        if name == PROJECTION:
            mapped[VISUAL_PROJECTION] = _transposed(delta, shapes[name])
            continue
        names = [VISION_MODEL + found for found in hf_names(name)]
        height = shapes[name][0] // len(names)
        for index, found in enumerate(names):
            whole = len(names) == 1
            part = delta if whole else _rows(delta, index * height, (index + 1) * height)
            if part is not None:
                mapped[found] = part
    return mapped


def _rows(delta: Delta, start: int, stop: int) -> Delta | None:
    """The delta of these rows of its weight; None when nothing moves there."""
    match delta:
        case Dense():
            return Dense(delta.values[start:stop])
        case Sparse():
            before, inside = int(delta.mask[:start].sum()), int(delta.mask[start:stop].sum())
            if not inside:
                return None
            return Sparse(delta.mask[start:stop], delta.values[before : before + inside])
        case LowRank(rows=None):
            part = LowRank(delta.down, delta.up[start:stop], None, delta.scale)
            return _exact(part, _product(delta)[start:stop], stop - start)
    rows = torch.as_tensor(delta.rows)
    inside_rows = (rows >= start) & (rows < stop)
    if not bool(inside_rows.any()):
        return None
    part = LowRank(delta.down, delta.up[inside_rows], rows[inside_rows] - start, delta.scale)
    return _exact(part, _product(delta)[inside_rows], stop - start)


def _transposed(delta: Delta, shape: tuple[int, ...]) -> Delta:
    """The delta of the transposed weight; `shape` is that of the weight as it is, [W, E]."""
    match delta:
        case Dense():
            return Dense(delta.values.T.contiguous())
        case Sparse():
            values = torch.zeros(shape, dtype=delta.values.dtype)
            values[delta.mask] = delta.values
            return Sparse(delta.mask.T.contiguous(), values.T[delta.mask.T])
    if delta.rows is not None:  # they become columns, which a low-rank delta cannot name
        return _transposed(_as_sparse(_product(delta), delta.rows, shape, delta.scale), shape)
    turned = LowRank(delta.up.T.contiguous(), delta.down.T.contiguous(), None, delta.scale)
    return _exact(turned, _product(delta).T, shape[1])


def _exact(part: LowRank, product: Tensor, height: int) -> Delta:
    """`part`, or its values where its own product is not, bit by bit, `product` [R, …]."""
    if torch.equal(_product(part), product):
        return part
    rows = torch.arange(height) if part.rows is None else part.rows
    return _as_sparse(product, rows, (height, product.shape[1]), part.scale)


def _as_sparse(product: Tensor, rows: Tensor, shape: tuple[int, ...], scale: float) -> Sparse:
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[rows] = True
    return Sparse(mask, (scale * product).flatten())


def _product(delta: LowRank) -> Tensor:
    """[R, inputs] as merging computes it, before the scale."""
    return delta.up.detach().float().cpu() @ delta.down.detach().float().cpu()
