"""A version is the same from its snapshot as from its adapters, bit by bit and by its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder, load_encoder
from encoder.deltas import Dense
from encoder.errors import (
    AdapterMisplaced,
    SnapshotError,
    SnapshotForeign,
    SnapshotTampered,
    SnapshotUnreadable,
)
from encoder.snapshot import Snapshot
from tests.support.stacked_adapters import stacked_adapters
from tests.support.tiny_encoder import (
    LAYOUTS,
    random_pixels,
    state_bytes,
    tiny_encoder,
    tiny_folder,
)


def stored(base: Encoder, adapters: Sequence[Adapter]) -> Snapshot:
    """The snapshot of a chain, written and read again."""
    data = base.snapshot_of(base.merged(adapters)).to_bytes()
    return read(data, base)


def read(data: bytes, base: Encoder) -> Snapshot:
    digest = hashlib.sha256(data).hexdigest()
    return Snapshot.from_bytes(data, digest=digest, base_digest=base.base_digest)


def same(one: Encoder, other: Encoder) -> None:
    assert state_bytes(one.model) == state_bytes(other.model)
    assert (one.digest, one.text_digest) == (other.digest, other.text_digest)
    assert one.base_digest == other.base_digest


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_version_is_the_same_by_snapshot_and_by_chain(layout: str) -> None:
    base = tiny_encoder(layout)
    chain = stacked_adapters(base, 5)
    snapshot = stored(base, chain[:3])
    for count in (3, 4, 5):
        same(base.merged([snapshot, *chain[3:count]]), base.merged(chain[:count]))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_is_so_in_every_precision(tmp_path: Path, precision: Any) -> None:
    base = load_encoder(str(tiny_folder(tmp_path / "model")), precision=precision)
    chain = stacked_adapters(base, 6, text=True)
    by_chain, by_snapshot = base.merged(chain), base.merged([stored(base, chain[:4]), *chain[4:]])
    same(by_snapshot, by_chain)
    pixels = random_pixels(3)
    assert torch.equal(by_snapshot.embed_images(pixels), by_chain.embed_images(pixels))
    assert by_snapshot.text_digest != base.text_digest


def test_a_snapshot_is_the_same_whatever_the_version_was_loaded_from() -> None:
    base = tiny_encoder()
    chain = stacked_adapters(base, 4)
    by_snapshot = base.merged([stored(base, chain[:2]), *chain[2:]])
    again = base.snapshot_of(by_snapshot).to_bytes()
    assert again == base.snapshot_of(base.merged(chain)).to_bytes()


def test_a_sum_of_changes_would_not_be_the_same() -> None:
    """Why a snapshot holds values: fp32 sums depend on their order."""
    base = tiny_encoder()
    chain = stacked_adapters(base, 5)
    name = base.tower.blocks[0].fc1[0]
    before = base.model.get_parameter(name)
    zeros = torch.zeros_like(before)
    for adapter in chain:
        if name in adapter.deltas:
            zeros = adapter.deltas[name].apply(zeros)
    assert not torch.equal(before + zeros, base.merged(chain).model.get_parameter(name))


def test_the_base_and_what_did_not_move_are_shared() -> None:
    base = tiny_encoder()
    before = state_bytes(base.model)
    snapshot = stored(base, stacked_adapters(base, 2))
    merged = base.merged([snapshot])
    ours = dict(base.model.named_parameters())
    for name, weight in merged.model.named_parameters():
        assert (weight is ours[name]) == (name not in snapshot.weights)
    assert state_bytes(base.model) == before


def test_bits_are_kept_where_numbers_compare_oddly() -> None:
    base = tiny_encoder()
    name = "visual.proj"
    change = torch.zeros_like(base.model.get_parameter(name))
    change[0, 0], change[0, 1] = torch.nan, -base.model.get_parameter(name)[0, 1].item()
    origin = Provenance("test", {}, 0, 0, "", base.name, None, base.base_digest)
    chain = [Adapter({name: Dense(change)}, origin)]
    snapshot = stored(base, chain)
    assert int(snapshot.weights[name].mask.sum()) == 2
    same(base.merged([snapshot]), base.merged(chain))


def test_its_size_depends_on_what_moved_and_not_on_how_often() -> None:
    base = tiny_encoder()
    few, many = (
        base.snapshot_of(base.merged(stacked_adapters(base, n))).to_bytes() for n in (12, 60)
    )
    weights = sum(
        weight.numel() * (weight.element_size() + 1 / 8)
        for name, weight in base.model.named_parameters()
        if name in read(many, base).weights
    )
    assert len(few) <= len(many) < weights + 4000
    headers = [int.from_bytes(data[:8], "little") for data in (few, many)]
    assert abs(headers[0] - headers[1]) < 50  # offsets have more digits


def test_only_what_is_built_on_the_snapshot_goes_on_top() -> None:
    base = tiny_encoder()
    chain = stacked_adapters(base, 3)
    snapshot = stored(base, chain[:1])
    with pytest.raises(AdapterMisplaced):
        base.merged([snapshot, chain[2]])
    with pytest.raises(AdapterMisplaced):
        base.merged([chain[0], snapshot])
    with pytest.raises(AdapterMisplaced):
        base.merged(chain[:1]).merged([snapshot])


def test_a_snapshot_of_another_base_is_refused() -> None:
    base, other = tiny_encoder(), tiny_encoder(seed=1)
    snapshot = base.snapshot_of(base.merged(stacked_adapters(base, 2)))
    with pytest.raises(SnapshotForeign) as caught:
        read(snapshot.to_bytes(), other)
    assert (caught.value.expected, caught.value.found) == (other.base_digest, base.base_digest)
    with pytest.raises(SnapshotForeign):
        other.merged([snapshot])


def test_a_changed_byte_is_a_mismatch_with_both_digests() -> None:
    base = tiny_encoder()
    data = bytearray(base.snapshot_of(base.merged(stacked_adapters(base, 1))).to_bytes())
    digest = hashlib.sha256(data).hexdigest()
    data[-1] ^= 1
    with pytest.raises(SnapshotTampered) as caught:
        Snapshot.from_bytes(bytes(data), digest=digest, base_digest=base.base_digest)
    assert caught.value.expected == digest
    assert caught.value.found == hashlib.sha256(data).hexdigest()


def _facts(**changes: Any) -> dict[str, str]:
    facts = {"format": 1, "base": "b", "chain": "c", "shapes": {"w": [4]}, **changes}
    return {"emend": json.dumps(facts, sort_keys=True)}


MASK, VALUES = torch.tensor([0b10100000], dtype=torch.uint8), torch.ones(2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no such file at all",
        save({"w": torch.ones(2)}),
        save({}, {"emend": "no JSON"}),
        save({}, {"emend": "[]"}),
        save({"w::mask": MASK, "w::values": VALUES}, _facts(format=2)),
        save({"w::mask": MASK}, _facts()),
        save({"w::mask": MASK, "w::values": torch.ones(3)}, _facts()),
        save({"w::mask": MASK, "w::values": VALUES}, _facts(shapes={"w": [400]})),
        save({"w::mask": MASK, "w::values": VALUES}, _facts(shapes=None)),
    ],
)
def test_files_of_another_kind_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotUnreadable) as caught:
        Snapshot.from_bytes(data, digest=hashlib.sha256(data).hexdigest(), base_digest="b")
    assert isinstance(caught.value, SnapshotError)


def test_the_file_is_plain_safetensors() -> None:
    data = save({"w::mask": MASK, "w::values": VALUES}, _facts())
    digest = hashlib.sha256(data).hexdigest()
    snapshot = Snapshot.from_bytes(data, digest=digest, base_digest="b")
    assert snapshot.weights["w"].mask.tolist() == [True, False, True, False]
    assert snapshot.to_bytes() == data
    assert load(data).keys() == {"w::mask", "w::values"}


def test_a_shape_that_does_not_fit_is_refused_by_name() -> None:
    base = tiny_encoder()
    snapshot = base.snapshot_of(base.merged(stacked_adapters(base, 1)))
    [name, *_] = snapshot.weights
    other = dataclasses.replace(snapshot, weights={"visual.proj": snapshot.weights[name]})
    with pytest.raises(Exception, match=r"visual\.proj"):
        base.merged([other])
