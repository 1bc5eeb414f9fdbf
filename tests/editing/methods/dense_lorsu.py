"""LoRSU written out as the paper has it, in whole tensors, to compare the real one with.

Sources: arXiv 2407.16526, equations 5 to 9; Adam as in arXiv 1412.6980, algorithm 1. Nothing of
`editing` or of `encoder.tower` is used: gradients of every weight, a mask for every weight, loops
over heads and over q, k and v, its own loss, schedule and Adam, all in double precision. Only what
chance decides is taken from the real run: the batches, and where the factor `down` starts.

Legend: N images, B of a batch, V labels, E embedding width, H heads, d head width, D = H * d,
I inputs, r rank, S image side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True)
class Names:
    """Where a layout keeps what LoRSU looks at; `{}` stands for the block's number."""

    attention: tuple[str, ...]  # one weight with q, k and v on top of each other, or one each
    fc1: tuple[str, ...]
    biases: tuple[str, ...]  # those that the authors' code trains
    projection: str | None
    heads: int
    packed: bool


_OWN, _TIMM = "visual.transformer.resblocks.{}.", "visual.trunk.blocks.{}."
_HEAD = "visual.trunk.head.weight"
BLOCKS = 2
DOWN, UP = " down", " up"  # the factors of a weight
NAMES = {
    "open_clip": Names(
        (_OWN + "attn.in_proj_weight",), (_OWN + "mlp.c_fc.weight",),
        (_OWN + "attn.in_proj_bias", _OWN + "mlp.c_fc.bias"),
        "visual.proj", heads=4, packed=True,
    ),
    "timm_fused": Names(
        (_TIMM + "attn.qkv.weight",), (_TIMM + "mlp.fc1.weight",),
        (_TIMM + "attn.q_bias", _TIMM + "attn.v_bias", _TIMM + "mlp.fc1.bias"),
        _HEAD, heads=3, packed=True,
    ),
    "timm_split": Names(
        (_TIMM + "attn.q_proj.weight", _TIMM + "attn.k_proj.weight", _TIMM + "attn.v_proj.weight"),
        (_TIMM + "mlp.fc1_g.weight", _TIMM + "mlp.fc1_x.weight"),
        (_TIMM + "attn.q_proj.bias", _TIMM + "attn.v_proj.bias",
         _TIMM + "mlp.fc1_g.bias", _TIMM + "mlp.fc1_x.bias"),
        _HEAD, heads=3, packed=False,
    ),
    "siglip": Names(
        (_TIMM + "attn.qkv.weight",), (_TIMM + "mlp.fc1.weight",),
        (_TIMM + "attn.qkv.bias", _TIMM + "mlp.fc1.bias"),
        None, heads=2, packed=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """Of one run."""

    heads: int
    fc1_fraction: float
    scale: float
    rate: float  # peak step size of factors, projection and biases
    fc1_rate: float
    warmup: int  # steps
    guard_weight: float
    code_parity: bool


@dataclass(frozen=True)
class Task:
    """pixels uint8 [N, 3, S, S] · targets [N] · allowed bool [N, V] · texts [V, E] · guard uint8"""

    pixels: Tensor
    targets: Tensor
    allowed: Tensor
    texts: Tensor
    guard: Tensor


@dataclass(frozen=True)
class Chance:
    """What a seed decides: `down` [r, I] by weight name; for each step positions of its images and
    of its guard images."""

    downs: Mapping[str, Tensor]
    batches: Sequence[Tensor]
    guards: Sequence[Tensor]


@dataclass
class Run:
    """weights: all of the model after the last step · heads: those chosen, by block
    masks: 1 where a weight may move, of its own shape, by its name"""

    weights: dict[str, Tensor] = field(default_factory=dict)
    heads: dict[int, tuple[int, ...]] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


class DenseTower:
    """A double-precision copy of a model's images-to-features half, called with whole weights."""

    def __init__(self, model: nn.Module) -> None:
        self._model = copy.deepcopy(model).double()
        self.weights = {name: w.detach() for name, w in self._model.named_parameters()}
        size = open_clip.get_model_preprocess_cfg(model)
        self._mean, self._std = (
            torch.tensor(size[key], dtype=torch.float64)[:, None, None] for key in ("mean", "std")
        )
        self._scale = float(self.weights["logit_scale"].exp())

    def features(self, pixels: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """uint8 [B, 3, S, S] -> unit rows [B, E]."""
        images = (pixels.double() / 255 - self._mean) / self._std
        visual = {name[7:]: w for name, w in weights.items() if name.startswith("visual.")}
        tower: Any = self._model.get_submodule("visual")
        found: Tensor = functional_call(tower, visual, (images,))
        return found / found.square().sum(dim=1, keepdim=True).sqrt()

    def loss(self, features: Tensor, task: Task, batch: Tensor) -> Tensor:
        """Cross-entropy over the labels that each image allows, mean over the batch."""
        total = features.new_zeros(())
        for row, position in enumerate(batch.tolist()):
            labels = task.allowed[position].nonzero()[:, 0].tolist()
            logits = {
                v: self._scale * (features[row] * task.texts[v].double()).sum() for v in labels
            }
            partition = sum(logit.exp() for logit in logits.values())
            total = total - (logits[int(task.targets[position])].exp() / partition).log()
        return total / len(batch)

    def gradient(self, task: Task, positions: Sequence[int]) -> dict[str, Tensor]:
        """Mean over these images of the loss's gradient, of every weight of the tower."""
        total: dict[str, Tensor] = {}
        for position in positions:
            weights = {name: w.clone().requires_grad_() for name, w in self.weights.items()}
            one = torch.tensor([position])
            torch.autograd.backward(self.loss(self.features(task.pixels[one], weights), task, one))
            for name, weight in weights.items():
                if weight.grad is not None:
                    share = weight.grad / len(positions)
                    total[name] = total[name] + share if name in total else share
        return total


def head_scores(
    names: Names, gradient: Mapping[str, Tensor], block: int, weights: Mapping[str, Tensor]
) -> list[float]:
    """Equation 5: the sum of squares over each head's rows of q, k and v."""
    scores = []
    for head in range(names.heads):
        score = 0.0
        for name, row in head_rows(names, block, head, weights):
            score += float((gradient[name][row] ** 2).sum())
        scores.append(score)
    return scores


def head_rows(
    names: Names, block: int, head: int, weights: Mapping[str, Tensor]
) -> list[tuple[str, int]]:
    """(weight, row) of every row of a head."""
    rows = []
    for part in range(3):  # q, k, v
        name = names.attention[0 if names.packed else part].format(block)
        height = weights[name].shape[0] // (3 if names.packed else 1)  # D
        width = height // names.heads  # d
        for i in range(width):
            rows.append((name, (part * height if names.packed else 0) + head * width + i))
    return rows


def strongest(values: Sequence[float], count: int) -> tuple[int, ...]:
    """Positions of the `count` largest, ascending."""
    return tuple(sorted(sorted(range(len(values)), key=lambda i: -values[i])[:count]))


def choose(names: Names, tower: DenseTower, gradient: Mapping[str, Tensor], to: Numbers) -> Run:
    """What may move, as masks of the weights' own shapes."""
    run = Run()
    for block in range(BLOCKS):
        scores = head_scores(names, gradient, block, tower.weights)
        run.heads[block] = strongest(scores, to.heads)
        for name in names.attention:
            run.masks[name.format(block)] = torch.zeros_like(tower.weights[name.format(block)])
        for head in run.heads[block]:
            for name, row in head_rows(names, block, head, tower.weights):
                run.masks[name][row] = 1
        for pattern in names.fc1:
            name = pattern.format(block)
            sizes = gradient[name].abs().flatten().tolist()
            mask = torch.zeros(len(sizes), dtype=torch.float64)
            mask[list(strongest(sizes, int(to.fc1_fraction * len(sizes))))] = 1
            run.masks[name] = mask.view_as(gradient[name])
        if to.code_parity:
            for pattern in names.biases:
                run.masks[pattern.format(block)] = torch.ones_like(
                    tower.weights[pattern.format(block)]
                )
    if to.code_parity and names.projection is not None:
        run.masks[names.projection] = torch.ones_like(tower.weights[names.projection])
    return run


class Adam:
    """Algorithm 1 of its paper, on numbers by name."""

    def __init__(self, numbers: Mapping[str, Tensor]) -> None:
        self._first = {name: torch.zeros_like(number) for name, number in numbers.items()}
        self._second = {name: torch.zeros_like(number) for name, number in numbers.items()}
        self._steps = 0

    def step(self, name: str, gradient: Tensor) -> Tensor:
        """How far to go down, for a step size of one."""
        self._first[name] = 0.9 * self._first[name] + 0.1 * gradient
        self._second[name] = 0.999 * self._second[name] + 0.001 * gradient**2
        mean = self._first[name] / (1 - 0.9**self._steps)
        spread = self._second[name] / (1 - 0.999**self._steps)
        return mean / (spread.sqrt() + 1e-8)

    def next_step(self) -> None:
        self._steps += 1


def dense_lorsu(layout: str, model: nn.Module, task: Task, to: Numbers, chance: Chance) -> Run:
    """Score, choose, and train for as many steps as there are batches."""
    names, tower = NAMES[layout], DenseTower(model)
    run = choose(names, tower, tower.gradient(task, range(len(task.targets))), to)
    fc1 = {pattern.format(block) for pattern in names.fc1 for block in range(BLOCKS)}
    numbers = {name: tower.weights[name] for name in run.masks if name not in chance.downs}
    for name, down in chance.downs.items():
        numbers[name + DOWN] = down.double()
        numbers[name + UP] = torch.zeros(len(tower.weights[name]), len(down), dtype=torch.float64)
    adam = Adam(numbers)
    steps = len(chance.batches)
    for step, (batch, watched) in enumerate(zip(chance.batches, chance.guards, strict=True)):
        numbers = {name: number.clone().requires_grad_() for name, number in numbers.items()}
        loss = whole_loss(tower, moved(tower, run, numbers, to), task, to, (batch, watched))
        run.losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(numbers.values()))
        adam.next_step()
        for (name, number), gradient in zip(list(numbers.items()), gradients, strict=True):
            kept = gradient * run.masks[name] if name in run.masks else gradient
            rate = pace(step, steps, to.warmup) * (to.fc1_rate if name in fc1 else to.rate)
            numbers[name] = number.detach() - rate * adam.step(name, kept)
    run.weights = moved(tower, run, numbers, to)
    return run


def moved(
    tower: DenseTower, run: Run, numbers: Mapping[str, Tensor], to: Numbers
) -> dict[str, Tensor]:
    """Equations 6 to 8: every weight of the model, a masked product on top where there is one."""
    weights = dict(tower.weights)
    for name, mask in run.masks.items():
        if name in numbers:
            weights[name] = numbers[name]
        else:
            product = numbers[name + UP] @ numbers[name + DOWN]
            weights[name] = weights[name] + mask * (to.scale * product)
    return weights


def whole_loss(
    tower: DenseTower,
    weights: Mapping[str, Tensor],
    task: Task,
    to: Numbers,
    batch: tuple[Tensor, Tensor],
) -> Tensor:
    """Of a batch of images, and of guard images that should be where the first weights put them."""
    taught, watched = batch
    loss = tower.loss(tower.features(task.pixels[taught], weights), task, taught)
    if len(watched) and to.guard_weight:
        before = tower.features(task.guard[watched], tower.weights)
        apart = tower.features(task.guard[watched], weights) - before
        loss = loss + to.guard_weight * (apart**2).sum() / len(watched)
    return loss


def pace(step: int, steps: int, warmup: int) -> float:
    """Part of the peak step size: a line up to 1 in the first steps, then half a cosine down."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps - warmup))
