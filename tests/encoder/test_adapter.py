from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load, save

from encoder.adapter import Adapter, Provenance, adapter_digest
from encoder.deltas import Dense, LowRank, Sparse
from encoder.digests import chain_digest
from encoder.errors import AdapterTampered, AdapterTruncated, AdapterUnreadable
from tests.support.images import photo_bytes


def provenance() -> Provenance:
    return Provenance(
        method="lorsu",
        config={"rank": 2, "fc1_fraction": 0.05, "loss": "cross_entropy"},
        seed=7,
        parent=3,
        stacked_on="a" * 64,
        base_name="tiny",
        base_pretrained=None,
        base_digest="b" * 64,
        strength=0.75,
        libraries={"torch": "2"},
        created_at="2026-01-01T00:00:00+00:00",
    )


def adapter() -> Adapter:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(5, 7, generator=generator) > 0.7
    return Adapter(
        {
            "visual.w": LowRank(torch.randn(2, 4), torch.zeros(3, 2), torch.arange(3), 1 / 3),
            "visual.all": LowRank(torch.ones(2, 4), torch.ones(6, 2)),
            "visual.fc": Sparse(mask, torch.randn(int(mask.sum()), generator=generator)),
            "visual.b": Dense(torch.linspace(0, 1, 5)),
        },
        provenance(),
    )


def test_what_is_written_is_read_back_bit_by_bit() -> None:
    written = adapter()
    read = Adapter.from_bytes(written.to_bytes())
    assert read.provenance == written.provenance
    assert list(read.deltas) == sorted(written.deltas)
    for name, delta in written.deltas.items():
        again = read.deltas[name]
        assert type(again) is type(delta)
        assert again.tensors().keys() == delta.tensors().keys()
        for part, tensor in delta.tensors().items():
            assert again.tensors()[part].dtype == tensor.dtype
            assert torch.equal(again.tensors()[part], tensor)
        if isinstance(delta, LowRank) and isinstance(again, LowRank):
            assert again.scale == delta.scale
    assert read.parameters == written.parameters


def test_a_file_of_the_first_format_names_the_same_chain() -> None:
    """It lists the adapters beneath, where now the digest of their chain stands."""
    data = adapter().to_bytes()
    size = int.from_bytes(data[:8], "little")
    facts = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["emend"])
    facts["format"], facts["provenance"]["stacked_on"] = 1, ["a" * 64, "b" * 64]
    read = Adapter.from_bytes(save(load(data), {"emend": json.dumps(facts)}))
    assert read.provenance.stacked_on == chain_digest(chain_digest("", "a" * 64), "b" * 64)
    assert list(read.deltas) == sorted(adapter().deltas)


def test_equal_adapters_give_equal_bytes_whatever_their_order() -> None:
    first = adapter()
    turned = Adapter(dict(reversed(first.deltas.items())), provenance())
    assert turned.to_bytes() == first.to_bytes()
    assert Adapter.from_bytes(first.to_bytes()).to_bytes() == first.to_bytes()


def test_the_digest_is_that_of_the_file_read_or_written() -> None:
    data = adapter_bytes = adapter().to_bytes()
    assert adapter_digest(adapter_bytes) == Adapter.from_bytes(data).digest
    fixed = Adapter({"b": Dense(torch.ones(2))}, provenance())
    assert fixed.digest == adapter_digest(fixed.to_bytes())


def test_a_mask_takes_one_bit_a_weight() -> None:
    mask = torch.zeros(1000, 80, dtype=torch.bool)
    empty = Adapter({"w": Sparse(mask, torch.zeros(0))}, provenance())
    assert len(empty.to_bytes()) < 80_000 / 8 + 2000


def test_an_adapter_may_change_nothing() -> None:
    read = Adapter.from_bytes(Adapter({}, provenance()).to_bytes())
    assert not read.deltas
    assert read.parameters == 0


def test_the_file_is_plain_safetensors_with_its_provenance_in_the_header() -> None:
    data = adapter().to_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    facts = json.loads(header["__metadata__"]["emend"])
    assert facts["provenance"]["config"] == provenance().config
    assert facts["deltas"]["visual.w"] == {"form": "low_rank", "scale": 1 / 3}


def test_a_changed_byte_is_a_mismatch_with_both_digests() -> None:
    data = bytearray(adapter().to_bytes())
    expected = adapter_digest(bytes(data))
    data[-1] ^= 1
    with pytest.raises(AdapterTampered) as caught:
        Adapter.from_bytes(bytes(data), digest=expected)
    assert (caught.value.expected, caught.value.found) == (expected, adapter_digest(bytes(data)))


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -400, -1])
def test_a_truncated_file_is_called_so(keep: int) -> None:
    data = adapter().to_bytes()
    with pytest.raises(AdapterTruncated):
        Adapter.from_bytes(data[:keep], digest=adapter_digest(data))


@pytest.mark.parametrize(
    "data",
    [
        photo_bytes(),
        bytes(64),
        b"\xff" * 64,
        save({"w": torch.ones(2)}),
        save({"w": torch.ones(2)}, {"emend": "no JSON"}),
        save({"w": torch.ones(2)}, {"emend": "[]"}),
        save({}, {"emend": json.dumps({"format": 3})}),
        save({}, {"emend": json.dumps({"format": 1})}),
        save({}, {"emend": json.dumps({"format": 1, "deltas": {}, "provenance": {}})}),
        save(
            {"w::values": torch.ones(2)},
            {"emend": json.dumps({"format": 1, "deltas": {"w": {"form": "x"}}, "provenance": {}})},
        ),
    ],
)
def test_files_of_another_kind_are_refused(data: bytes) -> None:
    with pytest.raises(AdapterUnreadable):
        Adapter.from_bytes(data)


def test_a_missing_tensor_is_refused() -> None:
    facts = {
        "format": 1,
        "deltas": {"w": {"form": "dense"}},
        "provenance": dataclasses.asdict(provenance()),
    }
    with pytest.raises(AdapterUnreadable, match="w::values"):
        Adapter.from_bytes(save({}, {"emend": json.dumps(facts)}))
