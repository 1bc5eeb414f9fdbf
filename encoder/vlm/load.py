"""A vision-language model from `bundled` or a folder, for the encoder that is served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from encoder.clip import Encoder, Precision
from encoder.vlm.errors import VlmInvalid, VlmMissing
from encoder.vlm.llava import load_llava
from encoder.vlm.minigpt import load_minigpt
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.weight_files import read_config

BUNDLED = "bundled"
_BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled" / "vlm"


def load_vlm(
    name: str,
    encoder: Encoder,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> VisionLanguageModel:
    """Load the model that reads this encoder's tower (any version of it: pass the base).

    `name` is `bundled` or a folder in Hugging Face's layout: LLaVA's (`model_type` "llava"), or a
    Llama's (`model_type` "llama") together with one MiniGPT-v2 checkpoint, a `.pth` file.

    Raises VlmMissing, VlmInvalid, VlmLibraryMissing, TowerForeign (it was made for another tower),
    or OutOfMemory.
    """
    folder = _BUNDLED_FOLDER if name == BUNDLED else Path(name)
    if not folder.is_dir():
        raise VlmMissing(name, "there is no such folder")
    config = read_config(folder)
    kind = config.get("model_type")
    if kind == "llava":
        model = load_llava(folder, config, encoder, device=device, precision=precision)
        return replace(model, name=BUNDLED) if name == BUNDLED else model
    if kind == "llama":
        return load_minigpt(folder, config, encoder, device=device, precision=precision)
    raise VlmInvalid(name, f"its config.json says model_type {kind!r}, not 'llava' or 'llama'")
