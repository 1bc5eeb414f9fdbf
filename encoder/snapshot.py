"""The state of one version: every weight that its chain of adapters moved, as it is now.

Merging a snapshot gives, bit by bit, what merging the whole chain gave where it was made. That is
why it holds values and not a sum of deltas: fp32 additions one after another round differently from
their sum. The file is bounded by the weights that moved, however many versions moved them: plain
safetensors, `<parameter>::mask` (one bit a weight) and `<parameter>::values` (in the weight's own
dtype), and one metadata entry `emend`. Equal snapshots give equal bytes.

Legend: `*shape` the weight's shape, K entries that differ from the base.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from encoder.adapter import pack_mask, unpack_mask
from encoder.errors import DeltaShape, SnapshotForeign, SnapshotTampered, SnapshotUnreadable

_KEY = "emend"
_FORMAT = 1
_LENGTH_BYTES = 8  # safetensors starts with the header's length, little-endian
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an entry


@dataclass(frozen=True, eq=False)
class Moved:
    """What one weight of the base became."""

    mask: Tensor  # bool [*shape]
    values: Tensor  # of the weight's dtype [K], in the mask's row-major order

    @classmethod
    def between(cls, before: Tensor, after: Tensor) -> Moved:
        """Compares bits, so that zeros of both signs and NaNs are what they are."""
        bits = _BITS[before.element_size()]
        mask = before.detach().view(bits) != after.detach().view(bits)
        return cls(mask, after.detach()[mask].reshape(-1))

    def apply(self, weight: Tensor) -> Tensor:
        """A new tensor of the weight's dtype and device."""
        mask = self.mask.to(weight.device)
        return weight.detach().masked_scatter(mask, self.values.to(weight.device))

    def check(self, name: str, weight: Tensor) -> None:
        """Raise `DeltaShape` unless this is about a weight of that shape."""
        if self.mask.shape != weight.shape:
            raise DeltaShape(name, tuple(weight.shape), tuple(self.mask.shape))


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Stands for all adapters of `chain`, the digest of the chain of the version it was made of."""

    base_digest: str
    chain: str
    weights: Mapping[str, Moved]  # by parameter name

    def to_bytes(self) -> bytes:
        """The snapshot's file; deterministic."""
        tensors: dict[str, Tensor] = {}
        for name, moved in self.weights.items():
            tensors[f"{name}::mask"] = pack_mask(moved.mask)
            tensors[f"{name}::values"] = moved.values.detach().cpu().contiguous()
        facts = {
            "format": _FORMAT,
            "base": self.base_digest,
            "chain": self.chain,
            "shapes": {name: list(moved.mask.shape) for name, moved in self.weights.items()},
        }
        return save(tensors, {_KEY: json.dumps(facts, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str, base_digest: str) -> Snapshot:
        """Read the file with this sha256, made from the base encoder of this digest.

        Raises SnapshotTampered, SnapshotUnreadable or SnapshotForeign.
        """
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise SnapshotTampered(digest, found)
        try:
            facts = _read_facts(data)
            tensors = load(data)
            weights = {
                name: _read_moved(name, tuple(shape), tensors)
                for name, shape in facts["shapes"].items()
            }
            snapshot = cls(facts["base"], facts["chain"], weights)
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as cause:
            raise SnapshotUnreadable(f"{type(cause).__name__}: {cause}") from cause
        if snapshot.base_digest != base_digest:
            raise SnapshotForeign(base_digest, snapshot.base_digest)
        return snapshot


def _read_facts(data: bytes) -> dict[str, Any]:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    facts = json.loads(json.loads(data[_LENGTH_BYTES:end])["__metadata__"][_KEY])
    if facts["format"] != _FORMAT:
        raise ValueError(f"format {facts['format']}, this release reads {_FORMAT}")
    return dict(facts)


def _read_moved(name: str, shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> Moved:
    mask, values = unpack_mask(tensors[f"{name}::mask"], shape), tensors[f"{name}::values"]
    if values.shape != (int(mask.sum()),):
        raise ValueError(f"{name!r} has {len(values)} values for {int(mask.sum())} entries")
    return Moved(mask, values)
