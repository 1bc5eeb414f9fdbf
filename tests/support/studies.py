"""What the tests of whole studies share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LITTLE = ["--shots", "2", "--updates", "2", "--epochs", "1", "--seeds", "0"]


def arguments(lab: Path, root: Path, *told: str) -> list[str]:
    places = ["--place", f"lab={lab}", "--out", str(root / "out"), "--work", str(root / "work")]
    return [*told, *places]


def kept(root: Path, study: str) -> dict[str, dict[str, Any]]:
    """Records by name, of the files' settings and of others alike."""
    files = (root / "out").glob(f"{study}*/*.json")
    return {path.stem: json.loads(path.read_text()) for path in files}
