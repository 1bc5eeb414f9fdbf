"""Modules built without memory and filled, weight by weight, from a file.

A module is built on the meta device and every weight is put in its place as it was read (cast to
the wanted precision), so that loading never holds a model twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn

from encoder.clip import Precision
from encoder.vlm.errors import VlmInvalid, VlmLibraryMissing
from encoder.vlm.weight_files import Weights

DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_NAMES_TOLD = 5
# What transformers and torch raise for a configuration they cannot build.
_MISBUILT = (
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    ZeroDivisionError,
)
# How a decoder is computed is decided here, whatever library its publisher had.
_NOT_TAKEN = ("model_type", "attn_implementation", "_attn_implementation")


def build_llama(config: Mapping[str, Any], source: str) -> nn.Module:
    """transformers' LlamaForCausalLM on the meta device, from its configuration's JSON.

    Raises VlmInvalid, VlmLibraryMissing.
    """
    if config.get("model_type", "llama") != "llama":
        raise VlmInvalid(source, f"its decoder is a {config['model_type']!r}, not a 'llama'")
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as cause:
        raise VlmLibraryMissing("transformers") from cause
    try:
        llama = LlamaConfig(**{k: v for k, v in config.items() if k not in _NOT_TAKEN})
        with torch.device("meta"):
            decoder: nn.Module = LlamaForCausalLM(llama)
    except (StrictDataclassError, *_MISBUILT) as cause:
        raise VlmInvalid(source, f"its decoder's configuration: {cause}") from cause
    return decoder


def build_activation(name: str, source: str) -> nn.Module:
    """An activation by transformers' name for it. Raises VlmInvalid, VlmLibraryMissing."""
    try:
        from transformers.activations import ACT2FN
    except ImportError as cause:
        raise VlmLibraryMissing("transformers") from cause
    if name not in ACT2FN:
        raise VlmInvalid(source, f"it has an unknown activation {name!r}")
    activation: nn.Module = ACT2FN[name]
    return activation


def check_names(module: nn.Module, weights: Weights, source: str) -> None:
    """Raise VlmInvalid, with names, unless these are exactly the module's weights."""
    expected = expected_shapes(module)
    refuse_names("it lacks", expected.keys() - weights.names, source)
    refuse_names("it has unknown weights", weights.names - expected.keys(), source)
    for name, shape in expected.items():
        if weights.shape(name) != shape:
            reason = f"{name} has shape {list(weights.shape(name))}, expected {list(shape)}"
            raise VlmInvalid(source, reason)


def expected_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every weight that a file must have: tied ones count once, under their first name."""
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def refuse_names(words: str, names: Iterable[str], source: str) -> None:
    """Raise VlmInvalid that names some of `names`, if there are any."""
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - _NAMES_TOLD} more" if len(listed) > _NAMES_TOLD else ""
        raise VlmInvalid(source, f"{words} {', '.join(listed[:_NAMES_TOLD])}{more}")


def fill(
    module: nn.Module,
    weights: Weights,
    *,
    device: str | torch.device,
    precision: Precision,
) -> nn.Module:
    """Put `weights`, checked already, into a module on the meta device; frozen, in eval mode.

    On a CPU, weights whose precision is the file's are mapped from it and take no memory of their
    own; the file may be replaced meanwhile, but not be written to.
    """
    dtype = DTYPES[precision]
    for name in expected_shapes(module):
        weight = weights[name].to(device=device, dtype=dtype)
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, nn.Parameter(weight, requires_grad=False))
    if hasattr(module, "tie_weights"):
        cast(Any, module).tie_weights()
    for part in module.modules():
        if any(buffer.is_meta for buffer in part.buffers(recurse=False)):
            _rebuild_buffers(part, device)
    return module.eval()


def _rebuild_buffers(part: Any, device: str | torch.device) -> None:
    """Buffers that no file has (rotary frequencies) are computed anew from the configuration."""
    fresh = type(part)(config=part.config)
    for name, buffer in fresh.named_buffers(recurse=False):
        setattr(part, name, buffer.to(device))
