"""Which weights of a vision tower are of which kind, by name, in the tower's own order.

Told apart by the modules that hold them, so that every layout is covered. Surprises: open_clip's
packed `attn.in_proj_weight` and its `visual.proj` are bare parameters, though they act as linears.
"""

from __future__ import annotations

from torch import nn

from encoder.clip import Encoder

_TOWER = "visual"


def all_weights(encoder: Encoder) -> tuple[str, ...]:
    """Every parameter of the tower; buffers do not count."""
    return tuple(f"{_TOWER}.{name}" for name, _ in _visual(encoder).named_parameters())


def linear_weights(encoder: Encoder) -> tuple[str, ...]:
    """The matrix of every linear, packed attention projections and the output projection too.

    Neither biases, nor the convolution that makes patches, nor embeddings.
    """
    matrices = {encoder.tower.projection}
    for path, module in _visual(encoder).named_modules(prefix=_TOWER):
        if isinstance(module, nn.Linear | nn.MultiheadAttention):
            own = module.named_parameters(recurse=False)
            matrices |= {f"{path}.{name}" for name, weight in own if weight.ndim == 2}
    return tuple(name for name in all_weights(encoder) if name in matrices)


def norm_weights(encoder: Encoder) -> tuple[str, ...]:
    """Gains and biases of every LayerNorm (or RMSNorm, which has no bias)."""
    return tuple(
        f"{path}.{name}"
        for path, module in _visual(encoder).named_modules(prefix=_TOWER)
        if isinstance(module, nn.LayerNorm | nn.RMSNorm)
        for name, _ in module.named_parameters(recurse=False)
    )


def _visual(encoder: Encoder) -> nn.Module:
    return encoder.model.get_submodule(_TOWER)
