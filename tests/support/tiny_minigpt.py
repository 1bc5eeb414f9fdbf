"""A MiniGPT-v2 folder at the scale of tests: a Llama's folder and a checkpoint of its layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chaos.tiny_encoder import draw_weights
from tests.support.tiny_vlm import VLM_WIDTH, save_tokenizer, tiny_llama_config

IMAGE_SIZE = 56  # twice the tiny tower's own, as 448 is of 224
TOWER_WIDTH = 24
_RANK = 4


def tiny_minigpt_folder(folder: Path, *, seed: int = 0, suffix: str = "") -> Path:
    """Write one over `tiny_encoder("timm_fused")`; returns the folder.

    `suffix` is ".default" for the names that later releases of the LoRA library write.
    """
    write_llama(folder, seed=seed)
    torch.save({"model": checkpoint(seed=seed, suffix=suffix), "epoch": 3}, folder / "trained.pth")
    return folder


def write_llama(folder: Path, *, seed: int = 0) -> Any:
    """The Llama's part of the folder, by transformers itself; returns the Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM(LlamaConfig(**tiny_llama_config()))
    draw_weights(llama, seed)
    llama.save_pretrained(folder)
    save_tokenizer(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "emend": {"image_size": IMAGE_SIZE}}), encoding="utf-8")
    return llama.eval()


def checkpoint(*, seed: int = 0, suffix: str = "") -> dict[str, Tensor]:
    """What MiniGPT-v2 trains, under the names of its published file."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    state = {
        "llama_proj.weight": draw(VLM_WIDTH, 4 * TOWER_WIDTH),
        "llama_proj.bias": draw(VLM_WIDTH),
    }
    for layer in range(2):
        for part in ("q_proj", "v_proj"):
            name = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{part}.lora_"
            state[f"{name}A{suffix}.weight"] = draw(_RANK, VLM_WIDTH)
            state[f"{name}B{suffix}.weight"] = draw(VLM_WIDTH, _RANK)
    return state
