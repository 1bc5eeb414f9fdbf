"""Edited encoders on disk by name, so that a study goes on where it was stopped.

Beside the snapshot of what moved lie the facts of the fit; they are written last and name the
snapshot by its digest, so what a kill leaves behind is not taken for a finished edit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoder.clip import Encoder
from encoder.snapshot import Snapshot


class EditStore:
    """A folder outside the repository."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(
        self,
        key: str,
        base: Encoder,
        edited: Encoder,
        facts: Mapping[str, Any],
        *,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep an edit under `key`, with all facts that it depends on, and what to tell `beside`
        it when it is found."""
        self._root.mkdir(parents=True, exist_ok=True)
        data = base.snapshot_of(edited).to_bytes()
        _write(self._snapshot(key), data)
        told = {
            "digest": hashlib.sha256(data).hexdigest(),
            "base": base.base_digest,
            "facts": dict(facts),
            "beside": dict(beside or {}),
        }
        _write(self._facts(key), json.dumps(told, indent=1).encode())

    def find(
        self, key: str, base: Encoder, facts: Mapping[str, Any]
    ) -> tuple[Encoder, dict[str, Any]] | None:
        """The edit under `key`, and what stood beside it; None when there is none, or one of other
        facts or another base.

        Raises EncoderError for a damaged snapshot.
        """
        if not self._facts(key).exists():
            return None
        told = json.loads(self._facts(key).read_bytes())
        if told["facts"] != json.loads(json.dumps(facts)) or told["base"] != base.base_digest:
            return None
        data = self._snapshot(key).read_bytes()
        snapshot = Snapshot.from_bytes(data, digest=told["digest"], base_digest=base.base_digest)
        return base.merged([snapshot]), told.get("beside", {})

    def _snapshot(self, key: str) -> Path:
        return self._root / f"{key}.safetensors"

    def _facts(self, key: str) -> Path:
        return self._root / f"{key}.json"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    aside = path.with_suffix(f"{path.suffix}.part")
    aside.write_bytes(data)
    os.replace(aside, path)
