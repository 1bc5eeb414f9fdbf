"""Two-block seeded encoders of every tower layout, small enough to build in a few milliseconds.

`tiny_encoder(layout)` gives one in memory; `tiny_folder(path)` writes the open_clip one as a folder
that `load_encoder` (or a whole service, by EMEND_ENCODER) can open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.factory import get_tokenizer
from open_clip.model import CustomTextCLIP, set_model_preprocess_cfg
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from chaos.tiny_encoder import (
    CONTEXT,
    EMBEDDING,
    MODEL,
    SIDE,
    draw_weights,
    tiny_clip,
    tiny_folder,
)
from encoder.clip import Encoder, adopt_model

__all__ = ["CONTEXT", "EMBEDDING", "SIDE", "tiny_folder"]  # handed on
LAYOUTS = ("open_clip", "timm_fused", "timm_split", "siglip")

_TRUNK: dict[str, Any] = {
    "depth": 2,
    "embed_dim": 24,
    "num_heads": 3,
    "img_size": SIDE,
    "patch_size": 14,
    "pretrained": False,
}


def tiny_model(layout: str = "open_clip", *, seed: int = 0) -> nn.Module:
    """An open_clip model whose vision tower has this layout."""
    if layout == "open_clip":
        model = tiny_clip(seed=seed)
    else:
        config = {key: value for key, value in MODEL.items() if key != "quick_gelu"}
        bias = -10.0 if layout == "siglip" else None
        model = CustomTextCLIP(**config, init_logit_bias=bias)
        model.visual = _timm_tower(layout)
        draw_weights(model, seed)
    size = {"size": SIDE, **{k: v for k, v in vars(PreprocessCfg()).items() if k != "size"}}
    set_model_preprocess_cfg(model, size)
    return model


def tiny_encoder(layout: str = "open_clip", *, seed: int = 0) -> Encoder:
    """An fp32 base encoder on the CPU; equal seeds give equal digests."""
    tokenizer = SimpleTokenizer(context_length=CONTEXT)
    return adopt_model(tiny_model(layout, seed=seed), tokenizer, name=f"tiny-{layout}")


def random_pixels(count: int, *, seed: int = 0) -> Tensor:
    """Noise that differs from image to image, uint8 [count, 3, S, S]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def state_bytes(model: nn.Module) -> dict[str, bytes]:
    """The model's weights as bytes, for proofs that nothing moved."""
    state = model.state_dict().items()
    return {name: value.reshape(-1).view(torch.uint8).numpy().tobytes() for name, value in state}


def local_tokenizer(folder: Path) -> SimpleTokenizer:
    """open_clip's own tokenizer for a folder, to compare with."""
    tokenizer: SimpleTokenizer = get_tokenizer(f"local-dir:{folder}")
    return tokenizer


def _timm_tower(layout: str) -> nn.Module:
    """open_clip's timm adapter around a two-block trunk, which its own arguments cannot ask for."""
    pool, proj = ("map", "none") if layout == "siglip" else ("token", None)
    tower: nn.Module = TimmModel("test_vit", EMBEDDING, image_size=SIDE, pool="token", proj=proj)
    if layout == "siglip":
        shape = {**_TRUNK, "embed_dim": EMBEDDING, "num_heads": 2, "num_classes": 0}
        tower.trunk = timm.create_model("vit_base_patch16_siglip_224", global_pool=pool, **shape)
    else:
        name = {"timm_fused": "eva_giant_patch14_224", "timm_split": "eva02_base_patch16_clip_224"}
        tower.trunk = timm.create_model(
            name[layout], global_pool=pool, num_classes=EMBEDDING, **_TRUNK
        )
    return tower
