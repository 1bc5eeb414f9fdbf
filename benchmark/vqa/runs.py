"""What one row with one seed gave, as JSON; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.vqa.asking import Replies, Sheet
from benchmark.vqa.edits import Cost


@dataclass(frozen=True)
class SetResult:
    """Answers to one set of questions. `chosen`: a digit a question, the chosen option's place."""

    questions: int
    digest: str
    accuracy: float
    accuracy_by_mean: float
    chosen: str

    @classmethod
    def of(cls, sheet: Sheet, replies: Replies) -> SetResult:
        return cls(
            questions=len(sheet.questions),
            digest=sheet.digest,
            accuracy=round(replies.accuracy(sheet), 3),
            accuracy_by_mean=round(replies.accuracy_by_mean(sheet), 3),
            chosen="".join(str(option) for option in replies.chosen),
        )


@dataclass(frozen=True)
class Run:
    """`facts` is everything that the answers depend on; `classifier` the same encoder's zero-shot
    accuracy on the photos of `target`, percent, where it was asked."""

    row: str
    seed: int
    facts: Mapping[str, Any]
    cost: Cost
    target: SetResult
    control: SetResult
    classifier: float | None
    commit: str


class RunStore:
    """A folder of such files."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, run: Run) -> None:
        """Replace what is kept of this row and seed."""
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._path(run.row, run.seed)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(asdict(run), indent=1) + "\n")
        os.replace(aside, path)

    def find(self, row: str, seed: int, facts: Mapping[str, Any]) -> Run | None:
        """The run of exactly these facts, if it is kept."""
        path = self._path(row, seed)
        if not path.exists():
            return None
        run = _read(path)
        return run if run.facts == json.loads(json.dumps(facts)) else None

    def all(self) -> list[Run]:
        """Every run that is kept."""
        return [_read(path) for path in sorted(self._root.glob("*-seed*.json"))]

    def _path(self, row: str, seed: int) -> Path:
        return self._root / f"{row}-seed{seed}.json"


def _read(path: Path) -> Run:
    told = json.loads(path.read_text())
    told["cost"] = Cost(**told["cost"])
    for name in ("target", "control"):
        told[name] = SetResult(**told[name])
    return Run(**told)
