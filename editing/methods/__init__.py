"""The editing methods by name. `fit` is the one entry for all of them.

A method ends by handing back deltas and never learns how they are served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from editing.errors import InvalidConfig, UnknownMethod
from editing.methods.fitting import Fit, MethodConfig, fit
from editing.methods.full_finetune import FullFinetuneConfig
from editing.methods.layernorm import LayerNormConfig
from editing.methods.lora import LoraConfig
from editing.methods.lorsu import LorsuConfig
from editing.methods.spu import SpuConfig

__all__ = [
    "METHODS",
    "Fit",
    "FullFinetuneConfig",
    "LayerNormConfig",
    "LoraConfig",
    "LorsuConfig",
    "MethodConfig",
    "SpuConfig",
    "config_schema",
    "fit",
    "parse_config",
    "validated",
]

METHODS: dict[str, type[MethodConfig]] = {
    "lorsu": LorsuConfig,
    "full_finetune": FullFinetuneConfig,
    "layernorm": LayerNormConfig,
    "lora": LoraConfig,
    "spu": SpuConfig,
}


def parse_config(method: str, values: Mapping[str, Any]) -> MethodConfig:
    """The method's config with `values` over its defaults. Raises UnknownMethod, InvalidConfig."""
    return validated(_config_class(method), method, values)


def validated(config: type[MethodConfig], method: str, values: Mapping[str, Any]) -> MethodConfig:
    """A config of this class, `method` being what errors call it. Raises InvalidConfig."""
    try:
        return config.model_validate(dict(values))
    except ValidationError as error:
        problems = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]
        raise InvalidConfig(method, problems) from error


def config_schema(method: str, *, frozen_text: str | None = None) -> dict[str, Any]:
    """JSON schema of the method's config, for an encoder of which `frozen_text` says why its text
    tower cannot move, if that is so. Raises UnknownMethod.

    It cannot say that NaN is no number; `parse_config` does.
    """
    schema = _config_class(method).model_json_schema()
    if frozen_text is not None:
        towers = schema["properties"]["towers"]
        towers["enum"] = ["vision"]
        towers["description"] = f"what moves: the vision tower alone, because {frozen_text}"
    return schema


def _config_class(method: str) -> type[MethodConfig]:
    if method not in METHODS:
        raise UnknownMethod(method, sorted(METHODS))
    return METHODS[method]
