"""Kept directions, and low rank beside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.residual import ResidualPart, input_moments, principal
from encoder.clip import Encoder
from tests.support.tiny_encoder import LAYOUTS, random_pixels, tiny_encoder


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def diagonal(*energies: float) -> Tensor:
    return torch.diag(torch.tensor(energies))


@pytest.mark.parametrize(
    ("energy", "axes"), [(0, []), (0.5, [1]), (0.6, [1]), (0.61, [1, 3]), (0.95, [0, 1, 3])]
)
def test_the_fewest_directions_hold_the_energy(energy: float, axes: list[int]) -> None:
    kept = principal(diagonal(1.0, 6.0, 0.5, 2.5), energy, most=4)
    assert kept.shape == (4, len(axes))
    projector = kept @ kept.T
    expected = torch.zeros(4, 4)
    expected[axes, axes] = 1
    torch.testing.assert_close(projector, expected)


def test_what_is_kept_anyhow_counts_and_stays() -> None:
    beside = torch.eye(4)[:, [2]]
    kept = principal(diagonal(1.0, 6.0, 2.0, 1.0), 0.8, beside=beside, most=4)
    torch.testing.assert_close(kept @ kept.T, torch.diag(torch.tensor([0.0, 1, 1, 0])))
    enough = principal(diagonal(0.0, 1.0, 9.0, 0.0), 0.8, beside=beside, most=4)
    assert enough.shape == (4, 1)


def test_some_directions_are_left_to_move_in() -> None:
    moment = drawn(6, 6)
    assert principal(moment @ moment.T, 0.9999, most=2).shape == (6, 2)
    assert principal(moment @ moment.T, 0.9999, most=0).shape == (6, 0)
    assert principal(torch.zeros(6, 6), 0.5, most=6).shape == (6, 0)


@pytest.mark.parametrize("rows", [None, torch.tensor([1, 4])])
def test_inputs_along_kept_directions_give_the_same_outputs(rows: Tensor | None) -> None:
    frozen, moment = drawn(5, 8), drawn(8, 8, seed=1)
    kept = principal(moment @ moment.T, 0.7, most=6)
    assert 0 < kept.shape[1] < 6
    generator = torch.Generator().manual_seed(2)
    part = ResidualPart(frozen, rows, kept, rank=3, scale=2.0, generator=generator)
    with torch.no_grad():
        for tensor in part.parameters():
            tensor.normal_(generator=generator)
    inside, anywhere = drawn(4, kept.shape[1], seed=3) @ kept.T, drawn(4, 8, seed=3)
    for edited in (part.weight(), part.delta().apply(frozen)):
        torch.testing.assert_close(inside @ edited.T, inside @ frozen.T)
        assert (anywhere @ edited.T - anywhere @ frozen.T).abs().max() > 0.1


def outputs(encoder: Encoder, path: str, pixels: Tensor) -> Tensor:
    """What a module gives for these images, [tokens, I]."""
    seen: list[Tensor] = []
    module = encoder.model.get_submodule(path)
    hook = module.register_forward_hook(lambda *told: seen.append(told[2].flatten(0, -2)))
    encoder.embed_images(pixels)
    hook.remove()
    return torch.cat(seen)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_moments_are_of_what_the_norms_hand_over(layout: str) -> None:
    encoder, pixels = tiny_encoder(layout), random_pixels(20)
    norms = ("ln_1", "ln_2") if layout == "open_clip" else ("norm1", "norm2")
    found = input_moments(encoder, pixels)
    for block in encoder.tower.blocks:
        path = block.fc1[0].rsplit(".mlp.", 1)[0]
        for norm, names in zip(norms, (block.attention, block.fc1), strict=True):
            handed = outputs(encoder, f"{path}.{norm}", pixels)
            for name in names:
                torch.testing.assert_close(found[name], handed.T @ handed, rtol=1e-4, atol=1e-3)


def test_the_encoder_is_left_as_it_was() -> None:
    encoder = tiny_encoder()
    before = encoder.embed_images(random_pixels(2))
    input_moments(encoder, random_pixels(3))
    assert not any(module._forward_pre_hooks for module in encoder.model.modules())
    assert torch.equal(encoder.embed_images(random_pixels(2)), before)


def test_an_encoder_in_half_precision_is_looked_at_in_full() -> None:
    encoder = tiny_encoder()
    encoder.model.get_submodule("visual").bfloat16()
    full = input_moments(tiny_encoder(), random_pixels(4))
    for name, moment in input_moments(encoder, random_pixels(4)).items():
        assert moment.dtype == torch.float32
        torch.testing.assert_close(moment, full[name], rtol=0.1, atol=0.1 * moment.max().item())
    assert encoder.model.get_parameter("visual.proj").dtype == torch.bfloat16
