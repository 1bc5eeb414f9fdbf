from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editing.errors import VanishingGradient
from editing.fewshot import EditTask
from editing.importance import mean_gradients, spread_classes
from editing.lessons import LabelLesson
from editing.progress import silent
from editing.towers import Towers
from encoder.clip import Encoder
from tests.support.edit_task import edit_task, quick_config
from tests.support.tiny_encoder import LAYOUTS, state_bytes, tiny_encoder


def gradients_of(
    encoder: Encoder,
    task: EditTask,
    *,
    batch_size: int,
    loss: str = "cross-entropy",
    precision: str = "fp32",
) -> dict[str, Tensor]:
    config = quick_config(loss=loss, batch_size=batch_size, precision=precision)
    towers = Towers(encoder, config)
    return mean_gradients(
        towers.weight,
        [name for block in encoder.tower.blocks for name in (*block.attention, *block.fc1)],
        [LabelLesson(encoder, towers, task, config)],
        progress=silent,
    )


def only(task: EditTask, position: int) -> EditTask:
    part = slice(position, position + 1)
    return replace(
        task,
        pixels=task.pixels[part],
        targets=task.targets[part],
        allowed=task.allowed[part],
        new=task.new[part],
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_are_weighted_by_their_size(layout: str) -> None:
    encoder, task = tiny_encoder(layout), edit_task([0, 1, 2, 3, 0])
    whole = gradients_of(encoder, task, batch_size=5)
    uneven = gradients_of(encoder, task, batch_size=3)  # batches of 3 and 2
    alone = [gradients_of(encoder, only(task, position), batch_size=1) for position in range(5)]
    for name, gradient in whole.items():
        mean = torch.stack([each[name] for each in alone]).mean(dim=0)
        torch.testing.assert_close(uneven[name], gradient, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mean, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_head_scores_are_the_square_of_the_mean_and_not_the_mean_of_squares(layout: str) -> None:
    encoder, task = tiny_encoder(layout), edit_task([0, 1, 2, 3])
    mean = gradients_of(encoder, task, batch_size=4)
    alone = [gradients_of(encoder, only(task, position), batch_size=1) for position in range(4)]
    for block in encoder.tower.blocks:
        scores = block.head_scores(mean)
        width = block.head_width
        for head in range(block.heads):
            of_mean = of_squares = 0.0
            for name in block.attention:
                parts = mean[name].shape[0] // (block.heads * width)  # 3 when q, k, v are stacked
                rows = [
                    p * block.heads * width + head * width + i
                    for p in range(parts)
                    for i in range(width)
                ]
                of_mean += float(sum(mean[name][row].square().sum() for row in rows))
                each = [float(sum(g[name][row].square().sum() for row in rows)) for g in alone]
                of_squares += sum(each) / len(each)
            assert float(scores[head]) == pytest.approx(of_mean, rel=1e-4)
            assert of_squares > 1.2 * of_mean


def test_gradients_add_up_in_fp32_whatever_the_matrix_products_are_in() -> None:
    encoder, task = tiny_encoder(), edit_task([0, 1, 2, 3, 4, 0, 1, 2])
    exact = gradients_of(encoder, task, batch_size=1)
    half = gradients_of(encoder, task, batch_size=1, precision="bf16")
    for name, gradient in exact.items():
        assert half[name].dtype == torch.float32
        assert not torch.equal(half[name], half[name].bfloat16().float())
        assert (
            float(torch.cosine_similarity(half[name].flatten(), gradient.flatten(), dim=0)) > 0.99
        )


def test_scoring_leaves_the_encoder_as_it_is() -> None:
    encoder = tiny_encoder()
    before = state_bytes(encoder.model)
    gradients_of(encoder, edit_task([0, 1]), batch_size=2)
    assert state_bytes(encoder.model) == before
    assert all(each.grad is None for each in encoder.model.parameters())
    assert not any(each.requires_grad for each in encoder.model.parameters())


def test_a_vocabulary_of_one_label_teaches_nothing() -> None:
    task = edit_task([2, 2])
    allowed = torch.zeros_like(task.allowed)
    allowed[:, 2] = True
    with pytest.raises(VanishingGradient, match="no label competes"):
        gradients_of(tiny_encoder(), replace(task, allowed=allowed), batch_size=2)


@pytest.mark.parametrize("images", [3, 5])
def test_the_in_batch_loss_never_meets_a_last_batch_of_one(images: int) -> None:
    encoder, task = tiny_encoder(), edit_task([*range(images)])
    gradients = gradients_of(encoder, task, batch_size=2, loss="contrastive")
    assert any(bool(gradient.any()) for gradient in gradients.values())


def test_the_in_batch_loss_refuses_batches_of_one() -> None:
    with pytest.raises(VanishingGradient, match="a single image"):
        gradients_of(tiny_encoder(), edit_task([0, 1]), batch_size=1, loss="contrastive")


def test_classes_are_spread_over_the_order() -> None:
    targets = torch.tensor([0] * 8 + [1] * 4 + [2] * 4)
    order = spread_classes(targets)
    assert sorted(order.tolist()) == list(range(16))
    assert all(set(targets[part].tolist()) == {0, 1, 2} for part in torch.split(order, 4))
