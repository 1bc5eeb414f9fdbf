from __future__ import annotations

import pytest
import torch
from torch import Tensor

from editing.parametrize import (
    DensePart,
    Forms,
    LowRankPart,
    Parametrisation,
    SparsePart,
    parametrise,
)
from editing.selection import select
from editing.vision import VisionFunction
from encoder.clip import Encoder
from tests.editing.test_selection import random_gradients
from tests.support.tiny_encoder import LAYOUTS, random_pixels, tiny_encoder

MODES = pytest.mark.parametrize("code_parity", [False, True], ids=["strict", "code-parity"])
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)


def parametrised(encoder: Encoder, *, code_parity: bool) -> Parametrisation:
    gradients = random_gradients(encoder)
    selection = select(encoder.tower, gradients, heads=2, fc1_fraction=0.1, code_parity=code_parity)
    return parametrise(
        VisionFunction(encoder, precision="fp32").weight,
        selection,
        Forms(rate=0.1, sparse_rate=0.2, rank=3, scale=0.5),
        generator=torch.Generator().manual_seed(0),
    )


def features(encoder: Encoder, edited: Parametrisation, pixels: Tensor) -> Tensor:
    return VisionFunction(encoder, precision="fp32")(pixels, edited.weights())


def numbers(edited: Parametrisation) -> list[Tensor]:
    return [tensor for tensors, _ in edited.groups() for tensor in tensors]


def shake(edited: Parametrisation) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in numbers(edited):
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))


@MODES
@EVERY_LAYOUT
def test_it_starts_at_the_identity(layout: str, code_parity: bool) -> None:
    encoder = tiny_encoder(layout)
    edited = parametrised(encoder, code_parity=code_parity)
    for name, delta in edited.extract().items():
        weight = encoder.model.get_parameter(name)
        assert torch.equal(delta.apply(weight), weight)
    pixels = random_pixels(3)
    torch.testing.assert_close(features(encoder, edited, pixels), encoder.embed_images(pixels))


@MODES
@EVERY_LAYOUT
def test_its_features_are_those_of_the_merged_encoder(layout: str, code_parity: bool) -> None:
    encoder = tiny_encoder(layout)
    edited = parametrised(encoder, code_parity=code_parity)
    shake(edited)
    pixels = random_pixels(3)
    merged = encoder.merged_deltas(edited.extract(), label="shaken").embed_images(pixels)
    torch.testing.assert_close(features(encoder, edited, pixels), merged, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(merged, encoder.embed_images(pixels), atol=1e-3)


@EVERY_LAYOUT
def test_only_selected_numbers_have_optimizer_state(layout: str) -> None:
    encoder = tiny_encoder(layout)
    edited = parametrised(encoder, code_parity=False)
    weights = dict(encoder.model.named_parameters())
    expected = 0
    for block in encoder.tower.blocks:
        for name, rows in block.head_rows([0, 1]).items():
            expected += 3 * (weights[name].shape[1] + len(rows))
        expected += sum(int(weights[name].numel() * 0.1) for name in block.fc1)
    assert sum(tensor.numel() for tensor in numbers(edited)) == expected
    assert sum(delta.parameters for delta in edited.extract().values()) == expected


def test_step_sizes_go_to_their_own_numbers() -> None:
    edited = parametrised(tiny_encoder(), code_parity=True)
    sizes = {rate: sum(t.numel() for t in tensors) for tensors, rate in edited.groups()}
    deltas = edited.extract()
    fc1 = sum(delta.parameters for name, delta in deltas.items() if name.endswith("c_fc.weight"))
    assert sizes[0.2] == fc1
    assert sizes[0.1] == sum(delta.parameters for delta in deltas.values()) - fc1


def test_low_rank_on_rows_equals_a_dense_mask_forward_and_backward() -> None:
    generator = torch.Generator().manual_seed(0)
    frozen = torch.randn(9, 5, generator=generator)
    rows = torch.tensor([1, 4, 8])
    part = LowRankPart(frozen, rows, rank=2, scale=0.5, generator=generator)
    down, up = part.parameters()
    with torch.no_grad():
        up.normal_(generator=generator)
    mask = torch.zeros(9, 1)
    mask[rows] = 1
    whole = torch.zeros(9, 2)
    whole[rows] = up.detach()
    dense_down = down.detach().clone().requires_grad_()
    dense_up = whole.requires_grad_()
    dense = frozen + mask * (0.5 * dense_up @ dense_down)
    torch.testing.assert_close(part.weight(), dense)

    pull = torch.randn(9, 5, generator=generator)
    torch.autograd.backward([(part.weight() * pull).sum(), (dense * pull).sum()])
    assert dense_up.grad is not None
    torch.testing.assert_close(down.grad, dense_down.grad)
    torch.testing.assert_close(up.grad, dense_up.grad[rows])
    assert torch.equal(part.weight()[0], frozen[0])


def test_sparse_values_have_the_gradient_of_their_entries() -> None:
    frozen, pull = torch.randn(4, 3), torch.randn(4, 3)
    mask = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)
    part = SparsePart(frozen, mask)
    (values,) = part.parameters()
    torch.autograd.backward((part.weight() * pull).sum())
    torch.testing.assert_close(values.grad, pull[mask])
    with torch.no_grad():
        values += 1
    assert torch.equal(part.weight()[~mask], frozen[~mask])
    torch.testing.assert_close(part.delta().apply(frozen), part.weight().detach())


def test_dense_offsets_have_the_whole_gradient() -> None:
    frozen, pull = torch.randn(6), torch.randn(6)
    part = DensePart(frozen)
    (offset,) = part.parameters()
    torch.autograd.backward((part.weight() * pull).sum())
    torch.testing.assert_close(offset.grad, pull)
    assert torch.equal(part.weight(), frozen)


@MODES
@EVERY_LAYOUT
def test_gradients_that_are_handed_on_at_once_are_the_same(layout: str, code_parity: bool) -> None:
    encoder = tiny_encoder(layout)
    vision = VisionFunction(encoder, precision="bf16")
    edited = parametrised(encoder, code_parity=code_parity)
    shake(edited)
    direction = vision(random_pixels(3, seed=1), {})
    found = []
    for weights in (edited.weights(), edited.trained_weights()):
        torch.autograd.backward((vision(random_pixels(3), weights) * direction).sum())
        found.append([tensor.grad for tensor in numbers(edited)])
        for tensor in numbers(edited):
            tensor.grad = None
    for kept, handed in zip(*found, strict=True):
        assert kept is not None
        assert handed is not None
        assert torch.equal(kept, handed)


def test_a_gradient_is_gone_before_the_next_one_comes() -> None:
    first, second = DensePart(torch.ones(2)), DensePart(torch.ones(2))
    edited = Parametrisation({"first": (first, 0.1), "second": (second, 0.1)})
    weights = edited.trained_weights()
    nearer = weights["first"] * 3  # the second's gradient is known long before the first's
    met: list[tuple[Tensor | None, Tensor | None]] = []
    nearer.register_hook(
        lambda _: met.append((weights["second"].grad, second.parameters()[0].grad))
    )
    torch.autograd.backward((nearer + 2 * weights["second"]).sum())
    [(held, handed_on)] = met
    assert held is None
    assert handed_on is not None
    assert handed_on.tolist() == [2.0, 2.0]
