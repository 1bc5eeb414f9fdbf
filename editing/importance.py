"""Which weights the task pulls at: its mean signed gradient.

arXiv 2407.16526, section 3 and equation 5: gradients are averaged with their signs over all of the
task's images before anything is squared, so that directions on which images disagree cancel. It is
neither Fisher information nor a mean of squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from editing.errors import VanishingGradient
from editing.lessons import Lesson
from editing.progress import Progress


def mean_gradients(
    frozen: Callable[[str], Tensor],
    names: Sequence[str],
    lessons: Sequence[Lesson],
    *,
    progress: Progress,
) -> dict[str, Tensor]:
    """Mean gradient of the task's loss by weight name, fp32, for the weights of these names, of
    which `frozen` gives the encoder's own.

    Over all examples as they are (no augmentation); each lesson's batches are weighted by their
    size and summed in fp32, the lessons by their weights. A last batch of one joins the one before
    it, because an in-batch loss is not defined for it. A weight that no loss depends on is left
    out. Raises VanishingGradient when all is zero, or not defined for a batch.
    """
    weights = {name: frozen(name).requires_grad_() for name in names}
    batches = [(lesson, batch) for lesson in lessons for batch in _batches(lesson)]
    done = 0

    def tell() -> None:
        progress("scoring", done, len(batches), None)

    with ExitStack() as whole:
        for lesson in lessons:
            whole.enter_context(lesson.whole(weights, tell))
        for lesson, batch in batches:
            tell()
            share = lesson.weight * batch.numel() / len(lesson)
            loss = lesson.outcome(weights, lesson.pixels[batch], batch).loss
            torch.autograd.backward(loss * share)
            done += 1
    gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    if not any(bool(gradient.any()) for gradient in gradients.values()):
        raise VanishingGradient(lessons[0].name, "nothing competes with what is right")
    return gradients


def _batches(lesson: Lesson) -> list[Tensor]:
    batches = list(torch.split(spread_classes(lesson.kinds), lesson.batch_size))
    if lesson.batch_size > 1 and len(batches) > 1 and batches[-1].numel() == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def spread_classes(targets: Tensor) -> Tensor:
    """All positions once, long [N], each class spread evenly over the order."""
    place = torch.empty(targets.numel(), dtype=torch.float64)
    for label in torch.unique(targets):
        members = (targets == label).nonzero()[:, 0]
        place[members] = (torch.arange(members.numel()) + 0.5).double() / members.numel()
    return place.argsort(stable=True)
