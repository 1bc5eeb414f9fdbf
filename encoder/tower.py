"""One view over the towers that open_clip can build, so that nothing else cares.

Three layouts of vision towers are known, told apart by their parameter names:
- open_clip's own: `attn.in_proj_weight` (q, k, v stacked), `mlp.c_fc` (ViT-L-14);
- timm fused: `attn.qkv` (q, k, v stacked), `mlp.fc1` (EVA01-g-14, SigLIP);
- timm split: `attn.q_proj`, `attn.k_proj`, `attn.v_proj`; `mlp.fc1`, or SwiGLU's `fc1_g` and
  `fc1_x` (EVA02-B-16, EVA02-L-14). EVA02-E-14 is of the fused layout.
Surprises: EVA's fused attention has separate `q_bias` and `v_bias` and no k bias. SigLIP has no
projection after its attention pool. open_clip's `visual.proj` is [width, E], a Linear's [E, width].
Of text towers only open_clip's own is known. CLIP holds its parts itself, beside `visual`
(`transformer.…`); every other model has it as `text`.

All names are relative to the whole model (`visual.…`).
Legend: H heads, d head width, D = H * d, I inputs of a projection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from encoder.errors import UnknownTowerLayout

# Names of q, k, v, relative to a block: stacked in one weight, or one weight each.
_ATTENTIONS = (
    ("attn.in_proj_weight",),
    ("attn.qkv.weight",),
    ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"),
)
_ATTENTION_BIASES = (
    ("attn.in_proj_bias",),
    ("attn.qkv.bias",),
    ("attn.q_bias", "attn.v_bias"),
    ("attn.q_proj.bias", "attn.k_proj.bias", "attn.v_proj.bias"),
)
_FC1 = ("mlp.c_fc", "mlp.fc1", "mlp.fc1_g", "mlp.fc1_x")
_PROJECTIONS = ("visual.proj", "visual.head.proj.weight", "visual.trunk.head.weight")
_TEXT_PROJECTIONS = ("text_projection", "text_projection.weight")
_CLIPS_TEXT = (
    "positional_embedding",
    "token_embedding.",
    "transformer.",
    "ln_final.",
    "text_projection",
)


@dataclass(frozen=True)
class Block:
    """The editable weights of one transformer block, by name."""

    index: int  # 0 = nearest to the pixels
    heads: int
    head_width: int
    attention: tuple[str, ...]  # one stacked [3D, I] weight, or q, k, v of [D, I] each
    attention_biases: tuple[str, ...]
    fc1: tuple[str, ...]  # one weight, or SwiGLU's two
    fc1_biases: tuple[str, ...]

    def head_rows(self, heads: Sequence[int]) -> dict[str, Tensor]:
        """Rows of q, k and v of these heads: long, ascending, for each attention weight."""
        chosen = torch.tensor(sorted(set(heads)), dtype=torch.long)
        if len(chosen) and not 0 <= int(chosen[0]) <= int(chosen[-1]) < self.heads:
            raise IndexError(f"block {self.index} has heads 0..{self.heads - 1}, not {heads}")
        width = torch.arange(self.head_width)
        rows = (chosen[:, None] * self.head_width + width).flatten()  # [len(heads) * d]
        if len(self.attention) == 1:
            stride = self.heads * self.head_width
            rows = torch.cat([rows, rows + stride, rows + 2 * stride])
        return {name: rows.clone() for name in self.attention}

    def head_scores(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """Sum of squares over each head's q, k and v rows, fp32 [H] (v1 eq. 5).

        `gradients` holds a tensor of the weight's own shape for every name in `attention`.
        """
        per_weight = [
            gradients[name]
            .float()
            .reshape(-1, self.heads, self.head_width, gradients[name].shape[-1])  # [1|3, H, d, I]
            .square()
            .sum(dim=(0, 2, 3))
            for name in self.attention
        ]
        return torch.stack(per_weight).sum(dim=0)


@dataclass(frozen=True)
class Tower:
    """A tower's blocks, from pixels or words to features, and its last projection if it has one."""

    layout: str
    blocks: tuple[Block, ...]
    projection: str | None
    weights: tuple[str, ...]  # all of its parameters, in the model's order


def view_tower(model: nn.Module) -> Tower:
    """View the vision tower of an open_clip model; works on the meta device.

    Raises UnknownTowerLayout for a tower without the parts above (ResNet, ConvNeXt, …).
    """
    layout = _layout_name(model)
    return _view(model, layout, _blocks_path(model, layout), _PROJECTIONS, ("visual.",))


def view_text_tower(model: nn.Module) -> Tower:
    """View the text tower of an open_clip model; works on the meta device. What scales and shifts
    logits belongs to neither tower.

    Raises UnknownTowerLayout for a tower that is not open_clip's own (a transformers model, …).
    """
    text = getattr(model, "text", None)
    own: tuple[str, ...] = _CLIPS_TEXT
    if isinstance(model, CLIP):
        prefix = ""
    elif isinstance(text, TextTransformer):
        prefix, own = "text.", ("text.",)
    else:
        layout = type(model if text is None else text).__name__
        raise UnknownTowerLayout(layout, "it is not open_clip's own", tower="text")
    projections = [prefix + name for name in _TEXT_PROJECTIONS]
    return _view(model, "TextTransformer", f"{prefix}transformer.resblocks", projections, own)


def _view(
    model: nn.Module, layout: str, path: str, projections: Sequence[str], own: tuple[str, ...]
) -> Tower:
    """`own` is what the names of the tower's parameters begin with."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    modules = model.get_submodule(path)
    if not isinstance(modules, nn.ModuleList | nn.Sequential) or not len(modules):
        raise UnknownTowerLayout(layout, f"{path} is not a list of blocks")
    blocks = tuple(
        _view_block(index, f"{path}.{index}.", module, shapes, layout)
        for index, module in enumerate(modules)
    )
    projection = next((name for name in projections if name in shapes), None)
    return Tower(layout, blocks, projection, tuple(n for n in shapes if n.startswith(own)))


def _layout_name(model: nn.Module) -> str:
    visual = getattr(model, "visual", None)
    trunk = getattr(visual, "trunk", None)
    name = type(visual).__name__
    return name if trunk is None else f"{name}({type(trunk).__name__})"


def _blocks_path(model: nn.Module, layout: str) -> str:
    for path in ("visual.transformer.resblocks", "visual.trunk.blocks"):
        try:
            model.get_submodule(path)
        except AttributeError:
            continue
        return path
    raise UnknownTowerLayout(layout, "it has no transformer blocks")


def _view_block(
    index: int,
    prefix: str,
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    layout: str,
) -> Block:
    def present(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(prefix + name for name in names if prefix + name in shapes)

    attention = next((present(n) for n in _ATTENTIONS if len(present(n)) == len(n)), ())
    fc1 = present([f"{name}.weight" for name in _FC1])
    heads = getattr(getattr(module, "attn", None), "num_heads", None)
    if not attention or not fc1 or not isinstance(heads, int):
        missing = "attention" if not attention or heads is None else "mlp"
        raise UnknownTowerLayout(layout, f"block {index} has an {missing} of another kind")
    heights = {shapes[name][0] for name in attention}
    height = heights.pop() // (3 if len(attention) == 1 else 1)
    if heights or height % heads:
        raise UnknownTowerLayout(layout, f"block {index} has q, k and v of unequal heads")
    return Block(
        index=index,
        heads=heads,
        head_width=height // heads,
        attention=attention,
        attention_biases=tuple(name for names in _ATTENTION_BIASES for name in present(names)),
        fc1=fc1,
        fc1_biases=present([f"{name}.bias" for name in _FC1]),
    )
