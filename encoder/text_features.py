"""Text features by digest: in memory, and on disk for the other processes of this machine.

A label's feature depends on the text side of the encoder, the label and the templates, all of
which are in its key, so an entry is never stale. Files are written aside and renamed; a damaged or
missing file is a miss, a full disk is logged and costs only time.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from encoder.digests import json_digest

_log = logging.getLogger(__name__)
_FIELD = "feature"


def text_feature_key(text_digest: str, label: str, templates: Sequence[str]) -> str:
    """Key of one label's feature under these templates."""
    return json_digest([text_digest, label, list(templates)])


class TextFeatureCache:
    """Least recently used features, fp32 [E] each, on the CPU; thread safe.

    `capacity` counts labels in memory; `folder`, when given, keeps up to `disk_capacity` more for
    every process that shares it.
    """

    def __init__(
        self, capacity: int, folder: Path | None = None, *, disk_capacity: int = 50_000
    ) -> None:
        self._capacity = capacity
        self._folder = folder
        self._disk_capacity = disk_capacity
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()
        self._computing = threading.Lock()
        self._written = 0

    def features(self, keys: Sequence[str], compute: Callable[[Sequence[str]], Tensor]) -> Tensor:
        """Rows for `keys`, fp32 [len(keys), E] on the CPU.

        `compute` gets the keys found nowhere, each once, and returns their rows; one thread at a
        time, so that requests for one new label set share the work.
        """
        found = self._find(keys)
        if len(found) < len(set(keys)):
            with self._computing:
                found |= self._find([key for key in keys if key not in found])
                missing = [key for key in dict.fromkeys(keys) if key not in found]
                if missing:
                    found |= self._keep(missing, compute(missing))
        return torch.stack([found[key] for key in keys])

    def _find(self, keys: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    found[key] = self._kept[key]
        if self._folder is not None:
            read = {key: self._read(key) for key in dict.fromkeys(keys) if key not in found}
            on_disk = {key: feature for key, feature in read.items() if feature is not None}
            self._remember(on_disk)
            found |= on_disk
        return found

    def _keep(self, keys: Sequence[str], features: Tensor) -> dict[str, Tensor]:
        rows = features.detach().float().cpu()  # [len(keys), E]
        # Clones: a row would keep the whole matrix alive.
        fresh = {key: row.clone() for key, row in zip(keys, rows, strict=True)}
        self._remember(fresh)
        if self._folder is not None:
            self._write(self._folder, fresh)
        return fresh

    def _remember(self, fresh: dict[str, Tensor]) -> None:
        with self._lock:
            self._kept.update(fresh)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)

    def _path(self, folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> Tensor | None:
        if self._folder is None:
            return None
        try:
            return load(self._path(self._folder, key).read_bytes())[_FIELD]
        except (OSError, SafetensorError, KeyError):
            return None

    def _write(self, folder: Path, fresh: dict[str, Tensor]) -> None:
        try:
            for key, feature in fresh.items():
                path = self._path(folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                aside = path.with_name(f"{key}.{uuid.uuid4().hex}.part")
                try:
                    aside.write_bytes(save({_FIELD: feature}))
                    os.replace(aside, path)
                finally:
                    aside.unlink(missing_ok=True)
        except OSError as full:
            _log.warning("text features are not kept on disk: %s", full)
        self._written += len(fresh)
        if self._written > self._disk_capacity // 10:
            self._written = 0
            self._prune(folder)

    def _prune(self, folder: Path) -> None:
        """Remove the oldest files beyond the capacity."""
        try:
            files = sorted(
                folder.glob("*/*.safetensors"), key=lambda f: f.stat().st_mtime, reverse=True
            )
            for file in files[self._disk_capacity :]:
                file.unlink(missing_ok=True)
        except OSError as busy:  # another process prunes too
            _log.info("text features are not pruned: %s", busy)
