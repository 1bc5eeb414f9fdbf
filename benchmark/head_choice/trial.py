"""One edit by one choice of heads, and what it does to what is asked and to the control.

All choices have the same photos, steps, step sizes and, but for rounding, trained numbers. What the
service adds for safety (guard term, further rounds, early stop) is off: it would hide differences.
The last part asks what is left of them where it is on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmark.experiment import config_facts, shared_variations
from benchmark.head_choice.material import Material
from benchmark.methods import parse
from benchmark.record import write_json
from editing.control import ControlSet
from editing.methods import LorsuConfig, MethodConfig, fit
from encoder.clip import Encoder
from encoder.deltas import LowRank

CHOICES: Mapping[str, str] = {
    "lorsu": "top two by mean gradient (LoRSU)",
    "random_heads": "two at random",
    "lowest_heads": "lowest two",
    "all_heads": "all eight, lower rank",
}
SERVICE = "as the service does"
"""A part with the service's own settings, whatever `steps` and `rate` say, but the paper's budgets:
two heads a block and a twentieth of fc1."""
PARTS: Mapping[str, Mapping[str, object]] = {
    # A fraction so small that each fc1 weight moves in one entry.
    "heads alone": {"fc1_fraction": 1e-9},
    "heads and fc1": {},
    SERVICE: {},
}
EQUAL: Mapping[str, object] = {
    "epochs": 0, "rounds": 1, "small_job_rate": 1, "stop_margin": 100, "batch_size": 8,
    "guard_weight": 0, "guard_images": 0, "fc1_learning_rate": 1e-3,
    "max_images": 500,  # of a service's jobs only: told, so that kept runs stay those of this file
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """What is run: one row of the table, one seed. `rate` is LoRSU's step size of heads."""

    material: str
    part: str
    choice: str
    seed: int
    shots: int
    steps: int
    rate: float

    @property
    def key(self) -> str:
        return f"{self.material}-{self.part}-{self.choice}-seed{self.seed}".replace(" ", "-")

    @property
    def guarded(self) -> bool:
        return self.part == SERVICE

    def config(self) -> MethodConfig:
        if self.guarded:
            return parse(self.choice, LorsuConfig.PAPER)
        changes = {
            **LorsuConfig.PAPER,
            "augmentation": shared_variations(),
            "min_steps": self.steps,
            "learning_rate": self.rate,
            **PARTS[self.part],
        }
        return parse(self.choice, {**EQUAL, **changes})


@dataclass(frozen=True)
class Result:
    """What one trial gave. `facts` is everything that it depends on.

    Percent right of what is asked and of the control, `before` and after; of the corrections; of
    the control's answers changed (`flips`). `head_numbers` of the `numbers` trained move heads;
    `heads` are those chosen, by block.
    """

    trial: Trial
    facts: Mapping[str, Any]
    commit: str
    before: float
    target: float
    corrections: float
    control_before: float
    control: float
    flips: float
    head_numbers: int
    numbers: int
    heads: Mapping[str, Any]
    loss: float
    cpu_seconds: float


def facts(trial: Trial, base: Encoder, material: Material) -> dict[str, Any]:
    """JSON-able, and the same for the same numbers."""
    told = hashlib.sha256()
    sheets = [material.asked, material.control, *([material.guard] if trial.guarded else [])]
    for sheet in sheets:
        told.update(sheet.pixels.numpy().tobytes() + sheet.rows.numpy().tobytes())
    return {
        "base": base.digest,
        "method": trial.choice,
        "config": config_facts(trial.config()),
        "shots": trial.shots,
        "seed": trial.seed,
        "asked": told.hexdigest()[:16],
    }


def run(trial: Trial, base: Encoder, material: Material, commit: str) -> Result:
    """Raises EditError."""
    began = time.process_time()
    task = material.corrections(trial.shots, trial.seed, guarded=trial.guarded)
    edit = fit(base, task, trial.config(), seed=trial.seed)
    seconds = time.process_time() - began
    edited = base.merged_deltas(edit.deltas, label=trial.key)
    fixed = (edited.embed_images(task.pixels).cpu() @ task.text_features.T).argmax(dim=1)
    before, target, _ = _asked(edited, material.asked)
    control_before, control, flips = _asked(edited, material.control)
    low_rank = [delta for delta in edit.deltas.values() if isinstance(delta, LowRank)]
    return Result(
        trial=trial,
        facts=facts(trial, base, material),
        commit=commit,
        before=before,
        target=target,
        corrections=_percent(fixed == task.targets),
        control_before=control_before,
        control=control,
        flips=flips,
        head_numbers=sum(delta.parameters for delta in low_rank),
        numbers=edit.parameters,
        heads=edit.summary["selection"]["heads"],
        loss=round(edit.history.losses[-1], 4),
        cpu_seconds=round(seconds, 1),
    )


def _asked(edited: Encoder, sheet: ControlSet) -> tuple[float, float, float]:
    """Percent right before and after, percent of answers changed."""
    assert sheet.base_features is not None
    before = sheet.answers(sheet.base_features)
    after = sheet.answers(edited.embed_images(sheet.pixels).cpu())
    old, new = (_percent(answers == sheet.rows) for answers in (before, after))
    return old, new, _percent(before != after)


def _percent(yes: Tensor) -> float:
    return round(100 * yes.float().mean().item(), 3)


class ResultStore:
    """A folder of results, a file a trial."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, result: Result) -> None:
        """Whole or not at all."""
        write_json(self._path(result.trial), asdict(result))

    def find(self, trial: Trial, facts: Mapping[str, Any]) -> Result | None:
        """The result of exactly these facts, if it is kept."""
        path = self._path(trial)
        if not path.exists():
            return None
        result = _read(path)
        return result if result.facts == json.loads(json.dumps(facts)) else None

    def all(self, material: str) -> list[Result]:
        """Every result of a material that is kept, whatever its facts."""
        return [_read(path) for path in sorted(self._root.glob(f"{material}-*-seed*.json"))]

    def _path(self, trial: Trial) -> Path:
        return self._root / f"{trial.key}.json"


def _read(path: Path) -> Result:
    told = json.loads(path.read_text())
    return Result(**{**told, "trial": Trial(**told["trial"])})
