"""What a run leaves behind: one JSON, with everything that it came from.

A run that is under way leaves its rows and its last encoder in a working folder outside the
repository, so that it goes on where it was killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "open_clip_torch", "timm", "numpy")
REPOSITORY = Path(__file__).parents[1]
ROOMS = ("benchmark", "editing", "encoder")
"""Whose code a run's numbers depend on."""
RESULTS = Path(__file__).with_name("results") / "paper"


class DirtyTree(Exception):
    """Results of code that nobody can look up later would be kept in the repository."""

    def __init__(self, out: Path, what: str) -> None:
        super().__init__(
            f"{out} keeps results of committed code only, and {what}; commit first, name another "
            "folder with --out, or say --allow-dirty"
        )


class RecordUnreadable(Exception):
    """A file among the results is no record of a run."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} is no record of a run ({reason}): move it elsewhere")


@dataclass(frozen=True)
class Asked:
    """One set of photos: percent right before and after, percent of answers changed."""

    photos: int
    digest: str
    before: float
    after: float
    flips: float


@dataclass(frozen=True)
class UpdateRow:
    """After one update. `tasks`: percent right of each update's classes on the probe photos, a row
    of R; `controls`: percent right of each control set; `strength`: the part of the edit kept."""

    number: int
    images: int
    steps: int
    loss: float | None
    parameters: int
    cpu_seconds: float
    seconds: float
    tasks: tuple[float, ...]
    probe: float
    controls: Mapping[str, float]
    strength: float = 1.0


@dataclass(frozen=True)
class Record:
    """One run. `facts` is all that its numbers depend on; `reliability` the percent of all photos
    taught that get their own label in the end, `peak_memory` that of the process during the run,
    bytes, `unseen` the part of each control set that no photo of the guard term is in, for sets
    that such photos stand in."""

    study: str
    name: str
    title: str
    seed: int
    facts: Mapping[str, Any]
    commit: str
    libraries: Mapping[str, str]
    threads: int
    seconds: float
    cpu_seconds: float
    peak_memory: int
    parameters: int
    step_flops: int
    target: Asked
    controls: Mapping[str, Asked]
    reliability: float | None
    updates: tuple[UpdateRow, ...] = field(default_factory=tuple)
    unseen: Mapping[str, Asked] = field(default_factory=dict)

    @property
    def matrix(self) -> list[list[float]]:
        """R, percent."""
        return [list(row.tasks) for row in self.updates]


class RecordStore:
    """A folder a study, a file a run."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, study: str, key: str) -> Path:
        return self._root / study / f"{key}.json"

    def save(self, record: Record, key: str) -> Path:
        """Whole or not at all."""
        path = self.path(record.study, key)
        write_json(path, asdict(record))
        return path

    def find(self, study: str, key: str, facts: Mapping[str, Any]) -> Record | None:
        """The run of exactly these facts, if it is kept. Raises RecordUnreadable."""
        path = self.path(study, key)
        if not path.exists():
            return None
        record = read_record(path)
        return record if record.facts == json.loads(json.dumps(facts)) else None

    def elsewhere(self, facts: Mapping[str, Any]) -> Record | None:
        """A run of exactly these facts that another study, or another name, keeps.

        Raises RecordUnreadable.
        """
        told = json.loads(json.dumps(facts))
        for path in sorted(self._root.glob("*/*.json")):
            record = read_record(path)
            if record.facts == told:
                return record
        return None

    def all(self, study: str) -> list[Record]:
        """Every run of a study that is kept. Raises RecordUnreadable."""
        return [read_record(path) for path in sorted((self._root / study).glob("*.json"))]


def read_record(path: Path) -> Record:
    """Raises OSError, and RecordUnreadable for a file that is none."""
    try:
        return _record(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as damage:
        reason = f"{type(damage).__name__}: {damage}"
        raise RecordUnreadable(path, reason) from damage


def _record(told: dict[str, Any]) -> Record:
    told["target"] = Asked(**told["target"])
    for part in ("controls", "unseen"):
        told[part] = {name: Asked(**each) for name, each in told[part].items()}
    told["updates"] = tuple(
        UpdateRow(**{**row, "tasks": tuple(row["tasks"])}) for row in told["updates"]
    )
    return Record(**told)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    os.replace(aside, path)


def libraries() -> dict[str, str]:
    """Versions of what computes."""
    return {name: version(name) for name in LIBRARIES}


def code_digest(root: Path = REPOSITORY) -> str:
    """Names the code that computes, committed or not, and the libraries under it."""
    told = hashlib.sha256(json.dumps(libraries()).encode())
    for path in sorted(each for room in ROOMS for each in (root / room).rglob("*.py")):
        told.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return told.hexdigest()[:16]


def state_of_code(root: Path = REPOSITORY) -> tuple[str, str | None]:
    """The commit, and what is wrong with keeping results of it: changes beside results, no git."""
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown", "there is no commit to name"
    changed = _git(root, "status", "--porcelain", "--", ".", ":!benchmark/results")
    if changed:
        return f"{commit}-dirty", "the working tree has changes"
    return commit, None


def check_out(out: Path, *, allow_dirty: bool, root: Path = REPOSITORY) -> str:
    """The commit to write down. Raises DirtyTree for results inside the repository."""
    commit, wrong = state_of_code(root)
    inside = out.resolve().is_relative_to(root.resolve())
    if wrong is not None and inside and not allow_dirty:
        raise DirtyTree(out, wrong)
    return commit


def add_out(parser: argparse.ArgumentParser, default: Path, told: str = "results") -> None:
    """Options of a command that keeps results: for `check_out`."""
    parser.add_argument("--out", type=Path, default=default, help=f"folder of the {told}")
    parser.add_argument("--allow-dirty", action="store_true", help="of code not committed, too")


def commit_of(parser: argparse.ArgumentParser, out: Path, *, allow_dirty: bool) -> str:
    """As `check_out`, for a command that has nothing else to refuse: it ends there."""
    try:
        return check_out(out, allow_dirty=allow_dirty)
    except DirtyTree as problem:
        parser.exit(1, f"stopped: {problem}\n")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
