from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from editing import losses
from editing.errors import VanishingGradient

TEXTS = F.normalize(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), dim=1)


def test_cross_entropy_of_a_hand_computed_case() -> None:
    features = torch.tensor([[0.6, 0.8, 0.0]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    logits = losses.masked_logits(features, TEXTS, everything, 10.0)
    loss = losses.cross_entropy(logits, torch.tensor([0]))
    expected = -math.log(math.exp(6) / (math.exp(6) + math.exp(8) + math.exp(0)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_labels_that_an_image_does_not_allow_have_no_part_in_its_loss() -> None:
    features = torch.tensor([[0.6, 0.8, 0.0]], requires_grad=True)
    allowed = torch.tensor([[True, False, True]])
    logits = losses.masked_logits(features, TEXTS, allowed, 10.0)
    loss = losses.cross_entropy(logits, torch.tensor([0]))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-6)), rel=1e-4)
    assert features.grad is not None
    assert features.grad[0, 1] == 0


def test_contrastive_loss_equals_its_definition() -> None:
    features = F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    targets = torch.tensor([0, 1, 2, 1])
    loss = losses.contrastive(features, targets, TEXTS, 5.0)
    logits = 5.0 * features @ TEXTS[targets].T
    rows = [-(logits[i, i] - logits[i].logsumexp(0)) for i in range(4)]
    columns = [-(logits[i, i] - logits[:, i].logsumexp(0)) for i in range(4)]
    assert loss.item() == pytest.approx(sum(map(float, rows + columns)) / 8, rel=1e-5)


def test_equal_captions_leave_the_contrastive_loss_without_image_to_text_gradient() -> None:
    features = F.normalize(torch.randn(4, 3), dim=1).requires_grad_()
    logits = features @ TEXTS[torch.ones(4, dtype=torch.long)].T
    torch.autograd.backward(F.cross_entropy(logits, torch.arange(4)))
    assert features.grad is not None
    assert float(features.grad.abs().max()) < 1e-6
    with pytest.raises(VanishingGradient, match="same label"):
        losses.contrastive(features, torch.ones(4, dtype=torch.long), TEXTS, 5.0)


def test_contrastive_loss_refuses_a_batch_of_one() -> None:
    with pytest.raises(VanishingGradient, match="single image"):
        losses.contrastive(TEXTS[:1], torch.tensor([0]), TEXTS, 5.0)


def test_guard_is_the_mean_squared_distance() -> None:
    moved = TEXTS.clone()
    moved[0] = TEXTS[1]
    assert losses.guard(TEXTS, TEXTS).item() == 0
    assert losses.guard(moved, TEXTS).item() == pytest.approx(2 / 3)


def test_margins_are_leads_over_the_best_other_label() -> None:
    logits = torch.tensor([[3.0, 1.0, -2.0], [3.0, 1.0, 5.0], [0.0, -torch.inf, -torch.inf]])
    assert losses.margins(logits, torch.tensor([0, 1, 0])).tolist() == [2.0, -4.0, math.inf]
