"""Measurements that are kept, a JSON file each; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.backbones.measurement import Plan

Record = Mapping[str, Any]


class Records:
    """A folder of them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, plan: Plan, record: Record) -> Path:
        """Replace what is kept of this model and method."""
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._path(plan)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(aside, path)
        return path

    def find(self, plan: Plan) -> Record | None:
        """Of exactly this plan, if it is kept, whatever the commit."""
        path = self._path(plan)
        if not path.exists():
            return None
        record: Record = json.loads(path.read_text())
        facts = json.loads(json.dumps(plan.facts()))
        return record if facts.items() <= record.items() else None

    def all(self) -> list[Record]:
        """Every one, by file name."""
        return [json.loads(path.read_text()) for path in sorted(self._root.glob("*.json"))]

    def _path(self, plan: Plan) -> Path:
        return self._root / f"{plan.title}-{plan.method.replace('_', '-')}.json"
