"""A learned change of one base encoder, and the file it lives in.

The file is plain safetensors: tensors named `<parameter>::<field>` and one metadata entry `emend`,
a JSON object with the provenance and the form of each delta. A sparse mask takes one bit a weight.
Equal adapters give equal bytes, so the sha256 of the file names the adapter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, reduce
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from encoder.deltas import Delta, Dense, LowRank, Sparse
from encoder.digests import NO_ADAPTERS, chain_digest
from encoder.errors import AdapterTampered, AdapterTruncated, AdapterUnreadable

_KEY = "emend"
_FORMAT = 2
_READS = (1, 2)  # 1 names every adapter beneath; its chain digest follows from them
_LENGTH_BYTES = 8  # safetensors starts with the header's length, little-endian
_FORMS: dict[type[Delta], str] = {Dense: "dense", LowRank: "low_rank", Sparse: "sparse"}


@dataclass(frozen=True)
class Provenance:
    """Where an adapter comes from; stored whole in its file."""

    method: str
    config: dict[str, Any]
    seed: int
    parent: int | None  # version that was live when it was fitted
    stacked_on: str  # digest of the chain beneath it; "" = on the base
    base_name: str
    base_pretrained: str | None
    base_digest: str
    strength: float = 1.0  # already in the deltas
    libraries: dict[str, str] = field(default_factory=dict)
    created_at: str = ""  # ISO 8601, UTC


@dataclass(frozen=True, eq=False)
class Adapter:
    """Deltas by parameter name, and their provenance. Without deltas it changes nothing."""

    deltas: Mapping[str, Delta]
    provenance: Provenance

    @cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return adapter_digest(self.to_bytes())

    @property
    def parameters(self) -> int:
        """How many trained numbers it holds."""
        return sum(delta.parameters for delta in self.deltas.values())

    def to_bytes(self) -> bytes:
        """The adapter's file; deterministic."""
        tensors: dict[str, Tensor] = {}
        forms: dict[str, dict[str, Any]] = {}
        for name, delta in self.deltas.items():
            forms[name] = {"form": _FORMS[type(delta)]}
            stored = delta.tensors()
            if isinstance(delta, LowRank):
                forms[name]["scale"] = delta.scale
            if isinstance(delta, Sparse):
                forms[name]["shape"] = list(delta.mask.shape)
                stored = {**stored, "mask": pack_mask(delta.mask)}
            for part, tensor in stored.items():
                tensors[f"{name}::{part}"] = tensor.detach().cpu().contiguous()
        facts = {"format": _FORMAT, "provenance": asdict(self.provenance), "deltas": forms}
        return save(tensors, {_KEY: json.dumps(facts, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str | None = None) -> Adapter:
        """Read an adapter's file, checking its sha256 when `digest` is given.

        Raises AdapterTruncated, AdapterTampered or AdapterUnreadable.
        """
        facts = _read_facts(data)
        found = adapter_digest(data)
        if digest is not None and digest != found:
            raise AdapterTampered(digest, found)
        try:
            tensors = load(data)
            deltas = {
                name: _read_delta(name, form, tensors) for name, form in facts["deltas"].items()
            }
            adapter = cls(deltas, _read_provenance(facts["provenance"]))
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as cause:
            raise AdapterUnreadable(f"{type(cause).__name__}: {cause}") from cause
        adapter.__dict__["digest"] = found  # known already; saves writing the file again
        return adapter


def empty_adapter(base_name: str, base_pretrained: str | None, base_digest: str) -> bytes:
    """The file of version 0: an adapter that changes nothing."""
    provenance = Provenance(
        method="none",
        config={},
        seed=0,
        parent=None,
        stacked_on="",
        base_name=base_name,
        base_pretrained=base_pretrained,
        base_digest=base_digest,
    )
    return Adapter({}, provenance).to_bytes()


def adapter_digest(data: bytes) -> str:
    """sha256 of an adapter's file, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _read_facts(data: bytes) -> dict[str, Any]:
    if len(data) < _LENGTH_BYTES:
        raise AdapterTruncated(len(data), _LENGTH_BYTES)
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    if start > len(data):
        # Bytes of another format give an absurd length; a header begins with a brace.
        if data[_LENGTH_BYTES : _LENGTH_BYTES + 1] not in (b"{", b""):
            raise AdapterUnreadable("it is not a safetensors file")
        raise AdapterTruncated(len(data), start)
    try:
        header = json.loads(data[_LENGTH_BYTES:start])
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        end = start + max(ends, default=0)
        facts = json.loads(header["__metadata__"][_KEY])
        known = facts["format"] in _READS
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as cause:
        raise AdapterUnreadable(f"its header is damaged or foreign ({cause})") from cause
    if len(data) < end:
        raise AdapterTruncated(len(data), end)
    if not known:
        raise AdapterUnreadable(f"format {facts['format']}, this release reads {_READS}")
    return dict(facts)


def _read_provenance(facts: dict[str, Any]) -> Provenance:
    known = {entry.name for entry in fields(Provenance)}
    values = {name: value for name, value in facts.items() if name in known}
    beneath = facts["stacked_on"]
    if not isinstance(beneath, str):
        beneath = reduce(chain_digest, beneath, NO_ADAPTERS)
    return Provenance(**{**values, "stacked_on": beneath})


def _read_delta(name: str, form: dict[str, Any], tensors: dict[str, Tensor]) -> Delta:
    match form["form"]:
        case "dense":
            return Dense(tensors[f"{name}::values"])
        case "low_rank":
            rows = tensors.get(f"{name}::rows")
            down, up = tensors[f"{name}::down"], tensors[f"{name}::up"]
            return LowRank(down, up, rows, float(form["scale"]))
        case "sparse":
            mask = unpack_mask(tensors[f"{name}::mask"], tuple(form["shape"]))
            return Sparse(mask, tensors[f"{name}::values"])
        case other:
            raise ValueError(f"unknown delta form {other!r}")


def pack_mask(mask: Tensor) -> Tensor:
    """bool [*shape] to uint8 [ceil(count / 8)]."""
    return torch.from_numpy(np.packbits(mask.detach().cpu().numpy().reshape(-1)))


def unpack_mask(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """uint8 [ceil(count / 8)] to bool [*shape]. Raises ValueError when there are more or fewer."""
    count = int(np.prod(shape))
    if packed.numel() != -(-count // 8):
        raise ValueError(f"{packed.numel()} bytes are no mask of {count} weights")
    bits = np.unpackbits(packed.numpy(), count=count)
    return torch.from_numpy(bits.astype(bool)).reshape(shape)
