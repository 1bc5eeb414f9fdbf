"""A two-block seeded CLIP model in open_clip's own layout, small enough to edit in a second.

`tiny_folder(path)` writes it as a folder that EMEND_ENCODER can name. Every matrix is drawn at
1 / sqrt(inputs): the library's own initial values are so small that all images would look alike.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import nn

EMBEDDING = 16  # E
SIDE = 28  # S, pixels; 2 x 2 patches of 14
CONTEXT = 32  # tokens
MODEL: dict[str, Any] = {
    "embed_dim": EMBEDDING,
    "quick_gelu": False,
    "vision_cfg": {
        "image_size": SIDE,
        "layers": 2,
        "width": 32,
        "head_width": 8,
        "patch_size": 14,
        "mlp_ratio": 4.0,
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}
_PREPROCESSING = {"size": SIDE, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def tiny_clip(*, seed: int = 0) -> nn.Module:
    """The model; equal seeds, equal weights."""
    model: nn.Module = CLIP(**{key: MODEL[key] for key in ("embed_dim", "vision_cfg", "text_cfg")})
    draw_weights(model, seed)
    return model


def tiny_folder(folder: Path, *, seed: int = 0) -> Path:
    """Write it as a local-dir model and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL, "preprocess_cfg": _PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    state = {name: value.contiguous() for name, value in tiny_clip(seed=seed).state_dict().items()}
    save_file(state, str(folder / "open_clip_model.safetensors"))
    return folder


def draw_weights(model: nn.Module, seed: int) -> None:
    """Every weight anew, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                inputs = parameter[0].numel()
                parameter.normal_(0, inputs**-0.5, generator=generator)
            elif parameter.ndim == 1 and "norm" not in name and "ln_" not in name:
                parameter.normal_(0, 0.02, generator=generator)
