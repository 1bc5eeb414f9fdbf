"""The shape of the bundled encoder and its random start.

Surprise: attention starts as "mimetic" noise (Trockman & Kolter, Mimetic Initialization of
Self-Attention Layers, ICML 2023): query x key close to +identity, value x output close to
-identity, with sine position embeddings. The weights are random, but their statistics are those of
a pretrained ViT, which helps most when photos are few.

Legend: W width, H heads, d = W / H, G tokens a side.
"""

import math
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 192,
    "quick_gelu": False,
    "init_logit_scale": math.log(20.0),
    "vision_cfg": {
        "image_size": 64,
        "layers": 8,
        "width": 256,
        "head_width": 32,
        "patch_size": 8,
        "mlp_ratio": 4.0,
        "no_ln_pre": True,
        "pool_type": "avg",
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 64,
        "heads": 4,
        "layers": 3,
    },
}
PREPROCESS_CONFIG: dict[str, Any] = {
    "size": 64,
    "mode": "RGB",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def create_student(seed: int, config: dict[str, Any] = MODEL_CONFIG) -> open_clip.CLIP:
    """A student with random weights, the same for the same seed."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config)
    start_like_pretrained(model.visual)
    return model


def normalise(photos: Tensor) -> Tensor:
    """Photos [B, 3, S, S] in 0..1 -> the student's input, same shape."""
    mean, deviation = (
        torch.tensor(PREPROCESS_CONFIG[key]).view(1, 3, 1, 1) for key in ("mean", "std")
    )
    return (photos - mean) / deviation


@torch.no_grad()
def start_like_pretrained(visual: VisionTransformer) -> None:
    """Mimetic attention weights and sine positions, in place."""
    width = visual.positional_embedding.shape[1]
    grid = visual.grid_size[0]
    visual.positional_embedding[1:] = _sine_positions(grid, width)
    visual.positional_embedding[0] = 0.0
    for block in visual.transformer.resblocks:
        _start_attention(block.attn)


def _start_attention(attention: nn.MultiheadAttention) -> None:
    width, heads = attention.embed_dim, attention.num_heads
    channels = width // heads
    noise = 1 / math.sqrt(width)
    query_rows, key_rows = [], []
    for _ in range(heads):
        wanted = 0.7 * torch.randn(width, width) * noise + 0.7 * torch.eye(width)
        left, sizes, right = torch.linalg.svd(wanted)
        root = sizes[:channels].sqrt()
        query_rows.append((left[:, :channels] * root).T)  # [d, W]
        key_rows.append(right[:channels] * root[:, None])  # [d, W]
    wanted = 0.4 * torch.randn(width, width) * noise - 0.4 * torch.eye(width)
    left, sizes, right = torch.linalg.svd(wanted)
    value = right * sizes.sqrt()[:, None]  # [W, W]
    attention.in_proj_weight.copy_(torch.cat([*query_rows, *key_rows, value]))
    attention.out_proj.weight.copy_(left * sizes.sqrt())


def _sine_positions(grid: int, width: int) -> Tensor:
    """[G*G, W]: a quarter of the channels each for sin and cos of the row and of the column."""
    quarter = width // 4
    rates = torch.exp(torch.arange(quarter) / quarter * -math.log(10000.0))
    angles = torch.arange(grid)[:, None] * rates  # [G, W/4]
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # [G, W/2]
    rows = waves[:, None].expand(grid, grid, -1)
    columns = waves[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, width)
