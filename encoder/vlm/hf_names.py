"""open_clip's names for a vision tower's weights in transformers' CLIPVisionModel.

The two towers compute the same from the same numbers. open_clip keeps q, k and v stacked in one
`in_proj_weight`, transformers has three; otherwise only names differ. Values are never copied: a
mapped state is made of views.

Names on transformers' side are relative to the CLIPVisionModel: on the hub they stand after
`vision_model.` or, in LLaVA, after `vision_tower.vision_model.`.

Legend: W width, F hidden width of the MLP.
"""

from __future__ import annotations

import re
from typing import Any

from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from encoder.clip import Encoder
from encoder.vlm.errors import NamesUnmappable

_PREFIX = "visual."
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_OUTSIDE = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",  # transformers' own spelling
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_INSIDE = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PACKED = {"attn.in_proj_weight": "weight", "attn.in_proj_bias": "bias"}
_PARTS = ("q_proj", "k_proj", "v_proj")
PROJECTION = "visual.proj"  # CLIPVisionModel has none


def hf_names(name: str) -> tuple[str, ...]:
    """The counterparts of one parameter (`visual.…`): one, or those of q, k and v.

    Raises NamesUnmappable.
    """
    own = name.removeprefix(_PREFIX)
    if own == name:
        raise NamesUnmappable(name, "it is not of the vision tower")
    if own in _OUTSIDE:
        return (_OUTSIDE[own],)
    found = _BLOCK.fullmatch(own)
    if found is None:
        raise NamesUnmappable(name, "only towers of open_clip's own layout have counterparts")
    layer, inside = f"encoder.layers.{found[1]}", found[2]
    if inside in _PACKED:
        return tuple(f"{layer}.self_attn.{part}.{_PACKED[inside]}" for part in _PARTS)
    module, _, kind = inside.rpartition(".")
    if module not in _INSIDE or kind not in ("weight", "bias"):
        raise NamesUnmappable(name, "it is a part that transformers' CLIP has not")
    return (f"{layer}.{_INSIDE[module]}.{kind}",)


def hf_state(encoder: Encoder) -> dict[str, Tensor]:
    """The tower's weights under transformers' names, as views; the projection is left out.

    Raises NamesUnmappable for a tower of another layout.
    """
    state: dict[str, Tensor] = {}
    for name, parameter in encoder.model.named_parameters():
        if name.startswith(_PREFIX) and name != PROJECTION:
            names = hf_names(name)
            state.update(zip(names, parameter.chunk(len(names)), strict=True))
    return state


def hf_config(encoder: Encoder) -> dict[str, Any]:
    """What transformers' CLIPVisionConfig needs to know. Raises NamesUnmappable."""
    visual: Any = encoder.model.visual
    if type(visual).__name__ != "VisionTransformer" or getattr(visual, "attn_pool", None):
        raise NamesUnmappable(encoder.tower.layout, "it is not a plain ViT of open_clip")
    block = encoder.tower.blocks[0]
    hidden = encoder.model.get_parameter(block.fc1[0])  # [F, W]
    return {
        "hidden_size": int(hidden.shape[1]),
        "intermediate_size": int(hidden.shape[0]),
        "num_hidden_layers": len(encoder.tower.blocks),
        "num_attention_heads": block.heads,
        "image_size": int(visual.image_size[0]),
        "patch_size": int(visual.patch_size[0]),
        "projection_dim": int(visual.output_dim),
        "layer_norm_eps": float(visual.ln_post.eps),
        "hidden_act": "quick_gelu" if _is_quick(visual) else "gelu",
    }


def has_norm_in_front(encoder: Encoder) -> bool:
    """Whether the tower has `ln_pre`; transformers' CLIP always has one."""
    visual: Any = encoder.model.visual
    return not isinstance(visual.ln_pre, nn.Identity)


def hf_tower(encoder: Encoder) -> nn.Module:
    """A CLIPVisionModel whose parameters are views of the encoder's tensors; treat as read-only.

    A tower without `ln_pre` gets an identity in its place. Raises NamesUnmappable.
    """
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(**hf_config(encoder))
    with torch.device("meta"):
        model: nn.Module = CLIPVisionModel(config)
    if not has_norm_in_front(encoder):
        model.pre_layrnorm = nn.Identity()
    state = {
        name: nn.Parameter(value, requires_grad=False) for name, value in hf_state(encoder).items()
    }
    model.load_state_dict(state, strict=True, assign=True)
    embeddings: Any = model.embeddings
    positions = torch.arange(embeddings.num_positions, device=encoder.device)
    embeddings.position_ids = positions.expand((1, -1))
    return model.eval()


def _is_quick(visual: nn.Module) -> bool:
    return any(isinstance(module, QuickGELU) for module in visual.modules())
