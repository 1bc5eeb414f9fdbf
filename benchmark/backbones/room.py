"""Whether a measurement fits into the memory that is free, before it takes any.

A machine that runs out of memory kills whichever process it likes. The estimate is from above, with
activations as they were measured on the published towers (bf16), and a fifth more.

Legend: T tower tokens, W tower width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from benchmark.backbones.measurement import Plan
from benchmark.backbones.models import outline, tower_weights
from editing.methods import MethodConfig
from editing.methods.fitting import Subject
from encoder.clip import Encoder

_RUNTIME = 800 << 20  # bytes: interpreter and libraries
_KEPT = {"bf16": 45, "fp32": 90}
"""Bytes that the backward pass needs, of an image, a block, a token and a unit of width."""
_RESERVE = 1 << 30  # bytes left to everything else
GIB = 1 << 30


class MemoryShort(Exception):
    """The measurement would need more memory than is free."""

    def __init__(self, plan: Plan, *, needed: int, free: int) -> None:
        super().__init__(
            f"{plan.model} by {plan.method} in batches of {plan.batch} needs about "
            f"{needed / GIB:.1f} GiB of memory, with a reserve, and {free / GIB:.1f} GiB are free"
        )
        self.needed, self.free = needed, free


def check_room(plan: Plan, *, free: int) -> None:
    """Raises MemoryShort, and what an unknown model or method raises."""
    needed = estimated_bytes(plan) + _RESERVE
    if needed > free:
        raise MemoryShort(plan, needed=needed, free=free)


def estimated_bytes(plan: Plan) -> int:
    """The most that a process of its own will hold."""
    encoder, config = outline(plan.model), plan.config
    sizes = {name: weight.numel() for name, weight in tower_weights(encoder).items()}
    scored, few, dense = (sum(sizes[name] for name in names) for names in _moved(encoder, config))
    tower = sum(sizes.values())
    copies = 2 * tower if plan.precision == "bf16" else 0
    scoring = copies + 4 * scored  # fp32 gradients
    # Weights as edited; of what moves whole also the change, its gradient and two of Adam.
    training = copies + 4 * few + 20 * dense
    afterwards = 4 * few + 16 * dense  # changes, their file and what it holds, merged weights
    step = plan.batch * activation_bytes(encoder, plan.precision)
    few_numbers = 2 * few  # masks, places and Adam's of what is chosen of them
    held = _RUNTIME + 4 * tower + few_numbers
    return held + max(scoring + step, training + step, afterwards)


def activation_bytes(encoder: Encoder, precision: str) -> int:
    """What one image leaves behind for the backward pass."""
    weights = tower_weights(encoder)
    patch = next(weight.shape[-1] for weight in weights.values() if weight.ndim == 4)
    tokens = (encoder.preprocessing.image_size // patch) ** 2 + 1
    return sum(
        _KEPT[precision] * tokens * weights[block.fc1[0]].shape[1] for block in encoder.tower.blocks
    )


class _Asked(Exception):
    """A method asked for these weights' gradients, which do not exist yet."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names


def _moved(
    encoder: Encoder, config: MethodConfig
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Names of weights that are scored, that move in part or at low rank, and that move whole."""

    def gradients(names: Sequence[str]) -> Mapping[str, Tensor]:
        raise _Asked(names)

    try:
        chosen = config.select(Subject(encoder, gradients))
    except _Asked as asked:
        return asked.names, asked.names, ()
    return (), [*chosen.rows, *chosen.masks], chosen.dense
