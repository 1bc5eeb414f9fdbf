"""The weights of a Hugging Face folder by name, read one at a time from its safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from encoder.vlm.errors import VlmInvalid

COMPUTED = ("position_ids", "rotary_emb.inv_freq")
"""Ends of the names of buffers that old files hold, and that are computed anew."""
_PARTS = ("emend", "text_config", "vision_config")  # of a configuration, where it has them
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name; each is read when it is asked for."""

    places: Mapping[str, tuple[Any, str]]  # an open file, and the name in it

    @property
    def names(self) -> set[str]:
        return set(self.places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the tensor."""
        file, stored = self.places[name]
        return tuple(file.get_slice(stored).get_shape())

    def __getitem__(self, name: str) -> Tensor:
        file, stored = self.places[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    def renamed(self, names: Mapping[str, str]) -> Weights:
        """Those named as values, by their keys."""
        return Weights({new: self.places[former] for new, former in names.items()})


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """The tensors of `model.safetensors`, of the files that an index names, or of all that are
    there; the files are closed afterwards. Raises VlmInvalid.
    """
    with ExitStack() as opened:
        places: dict[str, tuple[Any, str]] = {}
        for file in _files(folder):
            try:
                handle = opened.enter_context(safe_open(str(file), framework="pt"))
            except (SafetensorError, OSError) as cause:
                raise VlmInvalid(str(file), str(cause)) from cause
            for name in handle.keys():  # noqa: SIM118
                if name in places:
                    raise VlmInvalid(str(file), f"{name} is in two files")
                places[name] = (handle, name)
        yield Weights(places)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises VlmInvalid."""
    file = folder / "config.json"
    if not file.is_file():
        raise VlmInvalid(str(folder), "it has no config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as cause:
        raise VlmInvalid(str(file), f"it is not JSON: {cause}") from cause
    if not isinstance(config, dict):
        raise VlmInvalid(str(file), "it is not a JSON object")
    for part in _PARTS:
        if not isinstance(config.get(part, {}), dict):
            raise VlmInvalid(str(file), f"its `{part}` is not a JSON object")
    return config


def _files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / _INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise VlmInvalid(str(folder), "it has no safetensors file")
        return files
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise VlmInvalid(str(index), f"{type(cause).__name__}: {cause}") from cause
    files = [folder / Path(name).name for name in names]
    for file in files:
        if not file.is_file():
            raise VlmInvalid(str(folder), f"its index names {file.name}, which is not there")
    return files
