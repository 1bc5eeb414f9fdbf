"""Which weights of a tower are of which kind, by name, in the tower's own order.

Told apart by the modules that hold them, so that every layout is covered. Surprises: open_clip's
packed `attn.in_proj_weight`, its `visual.proj` and its `text_projection` are bare parameters,
though they act as linears.
"""

from __future__ import annotations

from torch import nn

from encoder.tower import Tower


def linear_weights(model: nn.Module, tower: Tower) -> tuple[str, ...]:
    """The matrix of every linear, packed attention projections and the output projection too.

    Neither biases, nor the convolution that makes patches, nor embeddings.
    """
    matrices = {tower.projection}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.MultiheadAttention):
            own = module.named_parameters(recurse=False)
            matrices |= {f"{path}.{name}" for name, weight in own if weight.ndim == 2}
    return tuple(name for name in tower.weights if name in matrices)


def norm_weights(model: nn.Module, tower: Tower) -> tuple[str, ...]:
    """Gains and biases of every LayerNorm (or RMSNorm, which has no bias)."""
    norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.RMSNorm)
        for name, _ in module.named_parameters(recurse=False)
    }
    return tuple(name for name in tower.weights if name in norms)
