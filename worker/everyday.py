"""The bundled list of everyday things: answers that any photo could be given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Everyday:
    """`labels` with the prompt templates that suit them."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]


def read_everyday() -> Everyday:
    """Raises FileNotFoundError where the bundled encoder is not installed."""
    listed: dict[str, Any] = json.loads(
        files("encoder").joinpath("bundled", "labels.json").read_text(encoding="utf-8")
    )
    return Everyday(tuple(listed["labels"]), tuple(listed.get("templates", ())))
