"""Directions in which a weight's inputs should be met as before, and low rank beside them.

KeepLoRA (arXiv 2601.19659) restricts updates to what is orthogonal to the principal directions of
the pretrained weight and of features to be kept; GPM (arXiv 2103.09762) finds the latter as the
fewest directions that hold a share of the features' energy. A change that is zero on a direction
leaves every output to inputs along it where it was.

Legend: B images, S image side, I inputs of a weight, K directions kept, r rank.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from editing.parametrize import LowRankPart
from encoder.clip import Encoder
from encoder.tower import Tower

CHUNK = 16  # images a forward


class ResidualPart(LowRankPart):
    """W + scale · up @ down, with `down` orthogonal to the directions that are kept."""

    def __init__(
        self,
        frozen: Tensor,
        rows: Tensor | None,
        kept: Tensor,
        *,
        rank: int,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        """frozen fp32 [out, I]; kept fp32 [I, K], orthonormal columns."""
        super().__init__(frozen, rows, rank=rank, scale=scale, generator=generator)
        self._kept = kept

    def down(self) -> Tensor:
        free = super().down()
        return free - free @ self._kept @ self._kept.T  # [r, I]


def principal(moment: Tensor, energy: float, *, beside: Tensor | None = None, most: int) -> Tensor:
    """fp32 [I, K]: `beside` and the fewest directions with which they hold `energy` of a moment.

    moment   [I, I], sum of x xᵀ; of a weight, Wᵀ W
    energy   share of its trace, 0 to 1
    beside   fp32 [I, k], orthonormal columns that are kept anyhow
    most     K at most
    """
    moment = moment.double()
    kept = moment.new_zeros(len(moment), 0) if beside is None else beside.double()
    rest = torch.eye(len(moment), dtype=moment.dtype, device=moment.device) - kept @ kept.T
    values, vectors = torch.linalg.eigh(rest @ moment @ rest)  # ascending
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    held = torch.cat([values.new_zeros(1), values.cumsum(0)]) + (kept.T @ moment @ kept).trace()
    enough = held >= energy * moment.trace() * (1 - 1e-9)
    count = int(enough.int().argmax()) if bool(enough.any()) else len(moment)
    count = max(0, min(count, most - kept.shape[1]))
    return torch.cat([kept, vectors[:, :count]], dim=1).float()


def input_moments(encoder: Encoder, pixels: Tensor) -> dict[str, Tensor]:
    """Sum of x xᵀ over the tokens x that each q, k, v and fc1 weight meets, fp32 [I, I] by name.

    pixels uint8 [B, 3, S, S], B >= 1
    """
    tower, readers = _private_tower(encoder), _readers(encoder.tower)
    moments: dict[str, Tensor] = {}
    for path in set(readers.values()):
        _watch(tower.get_submodule(path.removeprefix("visual.")), path, moments)
    with torch.no_grad():
        for chunk in torch.split(pixels, CHUNK):
            tower(encoder.preprocessing.normalise(chunk.to(encoder.device)).float())
    return {name: moments[path] for name, path in readers.items()}


def _watch(module: nn.Module, path: str, moments: dict[str, Tensor]) -> None:
    """Add up what this module is called with; nothing to undo on a private copy."""

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        tokens = inputs[0].detach().flatten(0, -2)  # [tokens, I]
        seen = tokens.T @ tokens
        moments[path] = moments[path] + seen if path in moments else seen

    module.register_forward_pre_hook(note)


def _readers(tower: Tower) -> dict[str, str]:
    """By weight, the module whose first argument its inputs are: not every layout calls a linear
    of its own for q, k and v."""
    return {
        name: name[: name.rindex(part) + len(part)].rstrip(".")
        for block in tower.blocks
        for names, part in ((block.attention, ".attn."), (block.fc1, ".mlp."))
        for name in names
    }


def _private_tower(encoder: Encoder) -> nn.Module:
    """Modules of its own in fp32, over the encoder's weights where those are fp32."""
    visual = encoder.model.get_submodule("visual")
    tensors = [*visual.parameters(), *visual.buffers()]
    half = any(each.dtype in (torch.float16, torch.bfloat16) for each in tensors)
    tower = copy.deepcopy(visual, {} if half else {id(each): each for each in tensors})
    return tower.float() if half else tower
