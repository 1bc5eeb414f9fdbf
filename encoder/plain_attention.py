"""Attention as plain matrix products, where that is faster than torch's own.

On a CPU torch's fused attention gains nothing from bfloat16, products of matrices gain a factor of
four: forward and backward of 16 images of 197 tokens, three heads, take 9 ms so and 28 ms fused.
In fp32 both take as long.

Legend: B images, N tokens, H heads, d head width, W = H · d.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

LEAST_TOKENS = 100
"""Short inputs stay with torch: the bundled encoder's edits were accepted with its rounding, and
with the other's a first edit of a hundred digits fixed 97 instead of the 98 that are wanted."""
MOST_TOKENS = 300
"""Beyond it the scores, which the backward pass keeps, take more memory than they save time."""


def attend_plainly(visual: nn.Module) -> None:
    """Change `visual`, a private copy of a vision tower, to compute softmax(q kᵀ / √d) v in two
    products; what it takes and gives stays, but for rounding. For bfloat16 on a CPU."""
    for module in visual.modules():
        if type(module) is nn.MultiheadAttention:
            module.__class__ = _PlainAttention
        elif hasattr(module, "fused_attn") and LEAST_TOKENS <= _tokens(visual) <= MOST_TOKENS:
            module.fused_attn = False  # type: ignore[assignment]  # timm has both ways


def _tokens(visual: nn.Module) -> int:
    """Of a tower of timm's; more than any where it does not say."""
    patches = [getattr(module, "num_patches", None) for module in visual.modules()]
    return next((int(each) + 1 for each in patches if each is not None), MOST_TOKENS + 1)


class _PlainAttention(nn.MultiheadAttention):
    """For self-attention of short inputs without a mask; torch's own for all else."""

    def forward(self, query: Tensor, *others: Any, **told: Any) -> tuple[Tensor, Tensor | None]:
        tokens = query.shape[1 if self.batch_first else 0]
        itself = len(others) == 2 and all(each is query for each in others)
        masked = told.get("need_weights", True) or any(
            told.get(name) is not None and told[name] is not False
            for name in ("attn_mask", "key_padding_mask", "is_causal")
        )
        fits = LEAST_TOKENS <= tokens <= MOST_TOKENS
        if masked or not itself or query.dim() != 3 or not fits:
            return super().forward(query, *others, **told)
        own = query.transpose(0, 1) if self.batch_first else query  # [N, B, W]
        width, images = own.shape[2], own.shape[1]
        projected = F.linear(own, self.in_proj_weight, self.in_proj_bias)
        parts = projected.view(tokens, images, 3, self.num_heads, self.head_dim)
        queries, keys, values = parts.permute(2, 1, 3, 0, 4)  # [B, H, N, d] each
        scores = (queries * self.head_dim**-0.5) @ keys.transpose(-2, -1)
        heads = scores.softmax(dim=-1) @ values
        joined = heads.permute(2, 0, 1, 3).reshape(tokens, images, width)
        found = F.linear(joined, self.out_proj.weight, self.out_proj.bias)
        return (found.transpose(0, 1) if self.batch_first else found), None
