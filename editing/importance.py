"""Which weights the task pulls at: its mean signed gradient.

arXiv 2407.16526, section 3 and equation 5: gradients are averaged with their signs over all of the
task's images before anything is squared, so that directions on which images disagree cancel. It is
neither Fisher information nor a mean of squares.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editing.errors import VanishingGradient
from editing.objective import Objective
from editing.progress import Progress
from editing.vision import VisionFunction


def mean_gradients(
    vision: VisionFunction,
    names: Sequence[str],
    objective: Objective,
    pixels: Tensor,
    *,
    order: Tensor,
    batch_size: int,
    progress: Progress,
) -> dict[str, Tensor]:
    """Mean gradient of the task's loss by weight name, fp32, for the weights of these names.

    Over all images `pixels` [N, 3, S, S] as they are (no augmentation), taken in `order` [N];
    batches are weighted by their size and summed in fp32. A last batch of one joins the one before
    it, because an in-batch loss is not defined for it.
    Raises VanishingGradient when it is zero everywhere, or not defined for a batch.
    """
    weights = {name: vision.weight(name).clone().requires_grad_() for name in names}
    batches = _batches(order, batch_size)
    for step, batch in enumerate(batches):
        progress("scoring", step, len(batches), None)
        features = vision(pixels[batch], weights)
        share = batch.numel() / order.numel()
        torch.autograd.backward(objective.loss(features, batch) * share)
    gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    if not any(bool(gradient.any()) for gradient in gradients.values()):
        raise VanishingGradient(objective.name, "no label competes with the right ones")
    return gradients


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    batches = list(torch.split(order, batch_size))
    if batch_size > 1 and len(batches) > 1 and batches[-1].numel() == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def spread_classes(targets: Tensor) -> Tensor:
    """All positions once, long [N], each class spread evenly over the order."""
    place = torch.empty(targets.numel(), dtype=torch.float64)
    for label in torch.unique(targets):
        members = (targets == label).nonzero()[:, 0]
        place[members] = (torch.arange(members.numel()) + 0.5).double() / members.numel()
    return place.argsort(stable=True)
