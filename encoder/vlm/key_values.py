"""Keys and values of a batch of token sequences, kept between a decoder's forward passes.

transformers' decoders take any object with the four methods that begin this class. Its own
`DynamicCache` copies all that it holds at every token; this one has columns to spare, and rows may
come and go.

Legend: B rows, K key-value heads, C columns (one a token), d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

_SPARE = 64  # columns that are added at once; copying is then rare, unused memory small


class KeyValues:
    """A decoder's cache, layer by layer, each two tensors [B, K, C, d]."""

    def __init__(self) -> None:
        self._layers: list[_Layer] = []

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append [B, K, new, d] each to a layer; returns all that it holds, [B, K, C, d] each."""
        if layer_idx == len(self._layers):
            self._layers.append(_Layer(keys, values, keys.shape[2]))
        else:
            self._layers[layer_idx].append(keys, values)
        return self._layers[layer_idx].held()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._layers[layer_idx].columns if layer_idx < len(self._layers) else 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.get_seq_length(layer_idx)

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length(layer_idx) + query_length, 0

    def crop(self, columns: int) -> None:
        """Forget all but the first `columns` columns."""
        for layer in self._layers:
            layer.columns = columns

    @staticmethod
    def stacked(stretches: Sequence[Stretch]) -> KeyValues:
        """A new cache with one row for each stretch, aligned at the right, zeros in front."""
        found = KeyValues()
        width = max(stretch.length for stretch in stretches)
        found._layers = [
            _Layer(
                _aligned([(s.source._layers[index].keys, s) for s in stretches], width),
                _aligned([(s.source._layers[index].values, s) for s in stretches], width),
                width,
            )
            for index in range(len(stretches[0].source._layers))
        ]
        return found


@dataclass(frozen=True)
class Stretch:
    """Columns `start` to `start + length` of one row of a cache."""

    source: KeyValues
    row: int
    start: int
    length: int


class _Layer:
    """Two buffers of which the first `columns` columns are in use."""

    def __init__(self, keys: Tensor, values: Tensor, columns: int) -> None:
        self.keys, self.values, self.columns = keys, values, columns

    def append(self, keys: Tensor, values: Tensor) -> None:
        end = self.columns + keys.shape[2]
        if end > self.keys.shape[2]:
            self.keys = _widened(self.keys, self.columns, end)
            self.values = _widened(self.values, self.columns, end)
        self.keys[:, :, self.columns : end] = keys
        self.values[:, :, self.columns : end] = values
        self.columns = end

    def held(self) -> tuple[Tensor, Tensor]:
        return self.keys[:, :, : self.columns], self.values[:, :, : self.columns]


def _widened(buffer: Tensor, used: int, needed: int) -> Tensor:
    rows, heads, _, width = buffer.shape
    wider = buffer.new_empty(rows, heads, needed + _SPARE, width)
    wider[:, :, :used] = buffer[:, :, :used]
    return wider


def _aligned(sources: Sequence[tuple[Tensor, Stretch]], columns: int) -> Tensor:
    """Zeros in front, because a masked column's values still take part, times nothing."""
    first = sources[0][0]
    found = first.new_zeros(len(sources), first.shape[1], columns + _SPARE, first.shape[3])
    for row, (buffer, stretch) in enumerate(sources):
        part = buffer[stretch.row, :, stretch.start : stretch.start + stretch.length]
        found[row, :, columns - stretch.length : columns] = part
    return found
