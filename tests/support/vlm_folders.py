"""Loads folders of vision-language models, and writes variations of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoder.clip import Encoder
from encoder.vlm.load import load_vlm
from encoder.vlm.model import VisionLanguageModel
from tests.support.tiny_encoder import tiny_encoder

State: TypeAlias = dict[str, Tensor]
Facts: TypeAlias = dict[str, Any]


def load(folder: Path, encoder: Encoder | None = None) -> VisionLanguageModel:
    return load_vlm(str(folder), encoder or tiny_encoder())


def rewrite(source: Path, target: Path, change: Callable[[State], State]) -> Path:
    """The same folder, its weights changed."""
    target.mkdir(exist_ok=True)
    for file in source.glob("*.json"):
        (target / file.name).write_bytes(file.read_bytes())
    save_file(change(load_file(source / "model.safetensors")), target / "model.safetensors")
    return target


def configure(folder: Path, **facts: Any) -> Path:
    """The same folder, its configuration changed; None takes an entry away."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text(encoding="utf-8")), **facts}
    kept = {key: value for key, value in config.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")
    return folder


def weights_of(vlm: VisionLanguageModel) -> State:
    both = {**vlm.connector.state_dict(), **vlm.decoder.state_dict()}
    return {name: weight.clone() for name, weight in both.items()}


def drop(end: str) -> Callable[[State], State]:
    return lambda state: {name: w for name, w in state.items() if not name.endswith(end)}


def put(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: {**state, name: torch.zeros(*shape)}
