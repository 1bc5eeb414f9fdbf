"""Where an encoder's weights come from, and a model with them in it.

Only safetensors files are opened. open_clip would prefer a pickled file in some folders and for
some tags, so the file is chosen here and open_clip is asked for the bare architecture.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import HF_HUB_PREFIX, LOCAL_DIR_PREFIX
from open_clip.pretrained import download_pretrained_from_hf
from safetensors import SafetensorError
from torch import nn

from encoder.errors import (
    PickledWeights,
    UnknownEncoder,
    UnknownPretrained,
    WeightsInvalid,
    WeightsRequired,
    WeightsUnavailable,
)

BUNDLED = "bundled"
_PREFERRED = "open_clip_model.safetensors"
_CONFIG = "open_clip_config.json"
_log = logging.getLogger(__name__)
# What open_clip and timm raise for a configuration they cannot build.
_MISBUILT = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError)


@dataclass(frozen=True)
class Source:
    """An architecture by open_clip name, and the safetensors file that fills it."""

    architecture: str  # as open_clip takes it: a name, local-dir:… or hf-hub:…
    weights: Path | None  # None: random
    quick_gelu: bool = False  # the weights were trained with QuickGELU
    preprocessing: dict[str, Any] | None = None  # overrides of the architecture's own


def find_source(name: str, pretrained: str | None, *, random_weights: bool = False) -> Source:
    """Resolve `bundled`, a folder, `hf-hub:…`, or an open_clip name with a tag (or a file).

    Raises UnknownEncoder, UnknownPretrained, WeightsRequired, WeightsUnavailable, WeightsInvalid
    or PickledWeights. The network is used for tags and hf-hub names only.
    """
    if name == BUNDLED:
        return _folder_source(Path(__file__).parent / BUNDLED)
    if name.startswith(HF_HUB_PREFIX):
        return _hub_source(name)
    if name.startswith(LOCAL_DIR_PREFIX) or Path(name).is_dir():
        return _folder_source(Path(name.removeprefix(LOCAL_DIR_PREFIX)))
    if open_clip.get_model_config(name) is None:
        raise UnknownEncoder(name)
    if pretrained is not None:
        return _named_source(name, pretrained)
    if not random_weights:
        raise WeightsRequired(name, open_clip.list_pretrained_tags_by_model(name))
    return Source(name, None)


def build_model(source: Source, *, device: str | torch.device, precision: str) -> nn.Module:
    """The model of `source` with its weights. Raises WeightsInvalid."""
    try:
        with without_false_alarm():
            model: nn.Module = open_clip.create_model(
                source.architecture,
                load_weights=False,
                precision=precision,
                device=device,
                force_quick_gelu=source.quick_gelu,
                force_preprocess_cfg=source.preprocessing,
                pretrained_text=False,
            )
    except _MISBUILT as cause:
        raise WeightsInvalid(source.architecture, f"{type(cause).__name__}: {cause}") from cause
    if source.weights is None:
        _log.warning("%s has random weights", source.architecture)
        return model
    try:
        open_clip.load_checkpoint(model, str(source.weights), strict=True)
    except (SafetensorError, RuntimeError, KeyError, ValueError) as cause:
        raise WeightsInvalid(str(source.weights), str(cause)) from cause
    return model


@contextmanager
def without_false_alarm() -> Iterator[None]:
    """open_clip warns of random weights, which are about to be replaced or meant."""

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("No pretrained weights loaded")

    root = logging.getLogger()  # open_clip logs there
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)


def _folder_source(folder: Path) -> Source:
    if not folder.is_dir():
        raise UnknownEncoder(str(folder), "there is no such folder")
    config = folder / _CONFIG
    if not config.is_file():
        raise WeightsInvalid(str(folder), f"it has no {_CONFIG}")
    try:
        known = json.loads(config.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as cause:
        raise WeightsInvalid(str(config), str(cause)) from cause
    model = known.get("model_cfg") if isinstance(known, dict) else None
    if not isinstance(model, dict) or not {"vision_cfg", "text_cfg"} <= model.keys():
        raise WeightsInvalid(str(config), "it has no model_cfg with vision_cfg and text_cfg")
    files = sorted(folder.glob("*.safetensors"), key=lambda f: (f.name != _PREFERRED, f.name))
    if not files:
        raise WeightsInvalid(str(folder), "it has no safetensors file")
    return Source(f"{LOCAL_DIR_PREFIX}{folder}", files[0])


def _hub_source(name: str) -> Source:
    repository = name.removeprefix(HF_HUB_PREFIX)
    try:
        weights = download_pretrained_from_hf(repository)
    except FileNotFoundError as cause:
        raise WeightsUnavailable(name, None, str(cause)) from cause
    return Source(name, _safe(Path(weights)))


def _named_source(name: str, pretrained: str) -> Source:
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag:
        if not Path(pretrained).is_file():
            known = open_clip.list_pretrained_tags_by_model(name)
            raise UnknownPretrained(name, pretrained, known)
        return Source(name, _safe(Path(pretrained)))
    try:
        weights = Path(open_clip.download_pretrained(tag))
    except FileNotFoundError as cause:
        raise WeightsUnavailable(name, pretrained, str(cause)) from cause
    overrides = {key: value for key, value in tag.items() if key != "size"}
    return Source(name, _safe(weights), bool(tag.get("quick_gelu")), overrides)


def _safe(weights: Path) -> Path:
    if weights.suffix != ".safetensors":
        raise PickledWeights(str(weights))
    return weights
