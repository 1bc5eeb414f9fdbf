from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from encoder.deltas import Delta, Dense, LowRank, Sparse
from encoder.errors import DeltaShape

SHAPE = (6, 4)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mask() -> Tensor:
    return draw(*SHAPE, seed=5) > 0.5


def deltas() -> dict[str, Delta]:
    rows = torch.tensor([1, 4])
    return {
        "dense": Dense(draw(*SHAPE)),
        "low rank": LowRank(draw(2, 4), draw(6, 2), None, 0.5),
        "low rank on rows": LowRank(draw(2, 4), draw(2, 2), rows, 0.5),
        "sparse": Sparse(mask(), draw(int(mask().sum()))),
    }


def expected_change(delta: Delta) -> Tensor:
    change = torch.zeros(SHAPE)
    match delta:
        case Dense():
            change += delta.values
        case LowRank():
            rows = torch.arange(6) if delta.rows is None else delta.rows
            change[rows] = delta.scale * (delta.up @ delta.down)
        case Sparse():
            change[delta.mask] = delta.values
    return change


def bits(weight: Tensor) -> Tensor:
    return weight.view(torch.int16 if weight.element_size() == 2 else torch.int32)


@pytest.mark.parametrize("name", sorted(deltas()))
def test_applying_adds_the_change_to_a_new_tensor(name: str) -> None:
    weight, delta = draw(*SHAPE, seed=9), deltas()[name]
    before = weight.clone()
    merged = delta.apply(weight)
    assert torch.equal(bits(weight), bits(before))
    assert merged.data_ptr() != weight.data_ptr()
    torch.testing.assert_close(merged, before + expected_change(delta))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["low rank on rows", "sparse"])
def test_what_is_not_selected_stays_bit_identical(name: str, dtype: torch.dtype) -> None:
    weight, delta = draw(*SHAPE, seed=9).to(dtype), deltas()[name]
    weight[0, :] = -0.0  # adding zero would turn it into +0.0
    untouched = expected_change(delta) == 0
    untouched[0, :] = True if name == "low rank on rows" else ~mask()[0]
    merged = delta.apply(weight)
    assert merged.dtype == dtype
    assert torch.equal(bits(merged)[untouched], bits(weight)[untouched])
    assert not torch.equal(merged, weight)


class Products(TorchDispatchMode):
    """Where matrix products are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.mm.default:
            self.devices += [one.device.type for one in args]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["low rank", "low rank on rows"])
def test_products_are_computed_on_the_cpu_wherever_the_weight_is(name: str) -> None:
    """A GPU rounds them otherwise. `meta` stands for any device that is not the CPU."""
    with Products() as products:
        merged = deltas()[name].apply(torch.empty(SHAPE, device="meta"))
    assert merged.device.type == "meta"
    assert products.devices == ["cpu", "cpu"]


def test_half_precision_weights_are_added_to_in_fp32() -> None:
    weight = torch.full(SHAPE, 256.0, dtype=torch.bfloat16)
    merged = Dense(torch.full(SHAPE, 1.5)).apply(weight)
    assert torch.equal(
        merged, torch.full(SHAPE, 258.0, dtype=torch.bfloat16)
    )  # 257.5, rounded once


@pytest.mark.parametrize("name", sorted(deltas()))
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_scales_the_change(name: str, strength: float) -> None:
    weight, delta = draw(*SHAPE, seed=9), deltas()[name]
    merged = delta.scaled(strength).apply(weight)
    torch.testing.assert_close(merged, weight + strength * expected_change(delta))
    assert delta.scaled(strength).parameters == delta.parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("dense", 24), ("low rank", 20), ("low rank on rows", 12), ("sparse", int(mask().sum()))],
)
def test_parameters_are_the_trained_numbers(name: str, parameters: int) -> None:
    assert deltas()[name].parameters == parameters


@pytest.mark.parametrize("name", sorted(deltas()))
def test_a_delta_fits_its_own_shape_only(name: str) -> None:
    delta = deltas()[name]
    delta.check("w", SHAPE)
    for other in [(4, 6), (6,), (5, 4) if name != "low rank on rows" else (4, 4)]:
        with pytest.raises(DeltaShape) as caught:
            delta.check("w", other)
        assert (caught.value.name, caught.value.expected) == ("w", other)


@pytest.mark.parametrize("rows", [[4, 1], [1, 1], [-1, 2], [1, 6]])
def test_rows_must_ascend_inside_the_weight(rows: list[int]) -> None:
    with pytest.raises(DeltaShape):
        LowRank(draw(2, 4), draw(2, 2), torch.tensor(rows)).check("w", SHAPE)


def test_a_sparse_delta_needs_a_value_for_each_masked_entry() -> None:
    with pytest.raises(DeltaShape):
        Sparse(mask(), draw(3)).check("w", SHAPE)
