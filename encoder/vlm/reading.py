"""Which of a vision tower's hidden tokens a vision-language model reads.

Nothing is asked of the tower's modules that would change them, so that many threads may read one
tower, and everything is a function of its parameters, so that `functional_call` may replace them.

Surprises: LLaVA and MiniGPT-v2 read the tower before its last block. Position embeddings for
another image size are resampled as MiniGPT-v2 and transformers do: bicubic without antialiasing,
whose kernel is not the one that timm's own resampling uses.

Legend: B images, S side, h x w grid of patches, N = h * w, P prefix tokens (the class token), W
width, T tokens read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.errors import UnknownTowerLayout
from encoder.tower import Tower

_BEFORE_BLOCKS = (  # relative to `visual.`; everything else outside the blocks comes after them
    "conv1.",
    "class_embedding",
    "positional_embedding",
    "ln_pre.",
    "trunk.patch_embed.",
    "trunk.cls_token",
    "trunk.reg_token",
    "trunk.pos_embed",
    "trunk.norm_pre.",
)


@dataclass(frozen=True)
class TowerReading:
    """Hidden tokens after `blocks` blocks of the tower, before any final norm."""

    blocks: int  # 1 .. depth; LLaVA: depth - 1
    class_token: bool  # kept in front of the patches, or dropped with any other prefix
    image_size: int  # S; positions are interpolated when it is not the tower's own


def read_tokens(visual: nn.Module, images: Tensor, reading: TowerReading) -> Tensor:
    """Normalised float [B, 3, S, S] to hidden tokens [B, T, W]; differentiable.

    `visual` is an open_clip model's vision tower; T = N, and P more with the class token.
    Raises UnknownTowerLayout, ValueError for a block or a class token that the tower has not.
    """
    blocks = _block_list(visual)
    if not 1 <= reading.blocks <= len(blocks):
        raise ValueError(f"the tower has blocks 1..{len(blocks)}, not {reading.blocks}")
    prefix = prefix_tokens(visual)
    if reading.class_token and not prefix:
        raise ValueError("the tower has no class token")
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        tokens = _open_clip_tokens(cast(Any, visual), images, reading.blocks)
    elif _grid(trunk.patch_embed.proj, images) == tuple(trunk.patch_embed.grid_size):
        tokens = _timm_tokens(trunk, images, reading.blocks)
    else:
        tokens = _timm_resampled_tokens(trunk, images, reading.blocks)
    return tokens if reading.class_token else tokens[:, prefix:]


def prefix_tokens(visual: nn.Module) -> int:
    """How many tokens stand in front of the patches: the class token, and registers."""
    trunk = getattr(visual, "trunk", None)
    return 1 if trunk is None else int(trunk.num_prefix_tokens)


def patch_count(visual: nn.Module, image_size: int) -> int:
    """N of a square image."""
    trunk = getattr(visual, "trunk", None)
    convolution = cast(Any, visual).conv1 if trunk is None else trunk.patch_embed.proj
    (side, _) = convolution.kernel_size
    return int((image_size // side) ** 2)


def tower_width(visual: nn.Module) -> int:
    """W."""
    trunk = getattr(visual, "trunk", None)
    convolution = cast(Any, visual).conv1 if trunk is None else trunk.patch_embed.proj
    return int(convolution.out_channels)


def unreached(reading: TowerReading, tower: Tower, names: Iterable[str]) -> list[str]:
    """Those of these parameters (names relative to the whole model) that the reading does not see:
    later blocks, final norm, pooling and projection, and everything outside the vision tower."""
    path = tower.blocks[0].attention[0].split(".0.attn.")[0]
    seen = (
        *(f"{path}.{index}." for index in range(reading.blocks)),
        *(f"visual.{name}" for name in _BEFORE_BLOCKS),
    )
    return [name for name in names if not name.startswith(seen)]


def _block_list(visual: nn.Module) -> nn.ModuleList | nn.Sequential:
    for path in ("transformer.resblocks", "trunk.blocks"):
        try:
            return cast("nn.ModuleList | nn.Sequential", visual.get_submodule(path))
        except AttributeError:
            continue
    raise UnknownTowerLayout(type(visual).__name__, "it has no transformer blocks")


def _open_clip_tokens(visual: Any, images: Tensor, blocks: int) -> Tensor:
    # What `VisionTransformer.forward_intermediates` does, with positions for any size.
    grid = _grid(visual.conv1, images)
    patches = visual.conv1(images).flatten(2).transpose(1, 2)  # [B, N, W]
    class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    positions = _resampled(visual.positional_embedding[None], visual.grid_size, grid, prefix=1)
    tokens = torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype)
    tokens = visual.ln_pre(visual.patch_dropout(tokens))
    _, (hidden,) = visual.transformer.forward_intermediates(
        tokens, indices=[blocks - 1], stop_early=True
    )
    return cast(Tensor, hidden)


def _timm_tokens(trunk: Any, images: Tensor, blocks: int) -> Tensor:
    (found,) = trunk.forward_intermediates(
        images,
        indices=[blocks - 1],
        return_prefix_tokens=bool(trunk.num_prefix_tokens),
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )
    if not trunk.num_prefix_tokens:
        return cast(Tensor, found)
    patches, prefix = found  # [B, N, W], [B, P, W]
    return torch.cat([prefix, patches], dim=1)


def _timm_resampled_tokens(trunk: Any, images: Tensor, blocks: int) -> Tensor:
    grid = _grid(trunk.patch_embed.proj, images)
    own = trunk.patch_embed.grid_size
    patches = trunk.patch_embed.proj(images).flatten(2).transpose(1, 2)  # [B, N, W]
    patches = trunk.patch_embed.norm(patches)
    tokens = _with_positions(trunk, patches, own, grid)
    tokens = trunk.norm_pre(tokens)
    rope = getattr(trunk, "rope", None)
    if rope is None:
        for block in trunk.blocks[:blocks]:
            tokens = block(tokens)
        return cast(Tensor, tokens)
    turned = copy.deepcopy(rope)  # it has no parameters; the shared one keeps its own size
    turned.update_feat_shape(list(grid))
    angles = turned.get_embed()
    for block in trunk.blocks[:blocks]:
        tokens = block(tokens, rope=angles)
    return cast(Tensor, tokens)


def _with_positions(trunk: Any, patches: Tensor, own: Any, grid: tuple[int, int]) -> Tensor:
    """Prefix tokens in front and positions added, [B, P + N, W]."""
    first = [
        token.expand(len(patches), -1, -1)
        for token in (trunk.cls_token, trunk.reg_token)
        if token is not None
    ]
    outside = trunk.no_embed_class  # prefix tokens have no position
    if trunk.pos_embed is None:
        return torch.cat([*first, patches], dim=1)
    prefix = 0 if outside else trunk.num_prefix_tokens
    positions = _resampled(trunk.pos_embed, own, grid, prefix=prefix)
    if outside:
        return torch.cat([*first, patches + positions], dim=1)
    return torch.cat([*first, patches], dim=1) + positions


def _grid(convolution: Any, images: Tensor) -> tuple[int, int]:
    (height, width), (rows, columns) = images.shape[-2:], convolution.kernel_size
    return (height // rows, width // columns)


def _resampled(positions: Tensor, own: Any, grid: tuple[int, int], *, prefix: int) -> Tensor:
    """[1, P + own N, W] to [1, P + N, W]; as it is when the grid is the tower's own."""
    if tuple(own) == grid:
        return positions
    width = positions.shape[-1]
    patches = positions[:, prefix:].reshape(1, *own, width).permute(0, 3, 1, 2)  # [1, W, h, w]
    scaled = functional.interpolate(
        patches.float(), size=grid, mode="bicubic", align_corners=False
    ).to(positions.dtype)
    return torch.cat([positions[:, :prefix], scaled.flatten(2).transpose(1, 2)], dim=1)
