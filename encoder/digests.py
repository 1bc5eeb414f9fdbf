"""Names for what an encoder computes: equal digests, equal answers.

The base digest covers every entry of the state dict (name, dtype, shape, bytes), the preprocessing,
and the two facts about the architecture that leave no trace in the weights: the number of heads
and QuickGELU. It is a tree of sha256 sums (tensors first, then the sorted list), which hashes on
several cores. Precision is part of it, because it is part of the answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from encoder.preprocessing import Preprocessing
from encoder.tower import Tower

_WORKERS = 4  # hashlib lets go of the interpreter lock


def json_digest(facts: Any) -> str:
    """sha256 of plain facts, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def base_digests(model: nn.Module, tower: Tower, preprocessing: Preprocessing) -> tuple[str, str]:
    """Digest of the whole base encoder, and of its text side alone."""
    lines = _lines(model.state_dict())
    traceless = {
        "heads": [block.heads for block in tower.blocks],
        "quick_gelu": any(isinstance(module, QuickGELU) for module in model.modules()),
    }
    base = json_digest([lines, preprocessing.to_json(), traceless])
    text = json_digest([[line for line in lines if not line[0].startswith("visual.")], traceless])
    return base, text


NO_ADAPTERS = ""
"""The chain digest of a base encoder."""


def chain_digest(beneath: str, adapter: str) -> str:
    """Names a chain of adapters by the one on top and the digest of the chain beneath it.

    A digest of digests, so that a chain can be continued without knowing how it began.
    """
    return json_digest([beneath, adapter])


def encoder_digest(base: str, chain: str, preprocessing: Preprocessing) -> str:
    """Digest of the base with a chain of adapters merged in; every cache key carries it."""
    return json_digest([base, chain, preprocessing.to_json()])


def weights_digest(beneath: str, weights: Mapping[str, Tensor]) -> str:
    """Names what `beneath` names with these weights in the place of its own."""
    return json_digest([beneath, _lines(weights)])


def _lines(weights: Mapping[str, Tensor]) -> list[list[Any]]:
    entries = sorted(weights.items())
    with ThreadPoolExecutor(_WORKERS) as pool:
        sums = list(pool.map(_tensor_digest, (tensor for _, tensor in entries)))
    return [
        [name, str(tensor.dtype), list(tensor.shape), digest]
        for (name, tensor), digest in zip(entries, sums, strict=True)
    ]


def _tensor_digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
