"""One fitted edit at many strengths: what it fixes, and what it costs.

``python -m benchmark.strengths --lab <folder>`` fits one edit of all signs on training tracks, as
`benchmark.jobs` draws them, and asks it at every tenth (``--strengths`` at others); the test split
stays closed.

`start` + a · edit for a up to 1 (WiSE-FT, arXiv 2109.01903; PAINT, arXiv 2208.05592). Two strengths
matter: the smallest that fixes the corrections, and the largest that keeps every budget.

Legend: N photos, V labels, S image side.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmark.datasets.missing import DataSetError
from benchmark.jobs import Bed, load_bed, options_of
from benchmark.lab import Lab
from benchmark.loop import say
from benchmark.methods import parse
from benchmark.record import DirtyTree, check_out, libraries, write_json
from editing.control import ControlChange, ControlSet
from editing.errors import EditError
from editing.examiner import Examiner
from editing.fewshot import EditTask
from editing.gate import GateConfig
from editing.methods import MethodConfig, fit
from editing.progress import Progress, silent
from encoder.clip import Encoder
from encoder.deltas import Delta
from encoder.errors import EncoderError

TENTHS = tuple(step / 10 for step in range(1, 11))


@dataclass(frozen=True)
class AtStrength:
    """Percent right of the corrections and of validation photos; what every control set lost."""

    strength: float
    corrections: float
    validation: float
    controls: tuple[ControlChange, ...]

    @property
    def within(self) -> bool:
        """Every control set keeps its budget."""
        return all(change.within for change in self.controls)

    def to_json(self) -> dict[str, Any]:
        return {
            "strength": self.strength,
            "corrections": self.corrections,
            "validation": self.validation,
            "within": self.within,
            "controls": [change.to_json() for change in self.controls],
        }


def at_strengths(
    start: Encoder,
    deltas: Mapping[str, Delta],
    *,
    task: EditTask,
    validation: EditTask,
    controls: Sequence[ControlSet],
    base: Encoder | None = None,
    strengths: Sequence[float] = TENTHS,
    progress: Progress = silent,
) -> list[AtStrength]:
    """The edit of `start` at each strength, in the order given; 0 is `start` itself.

    `task` holds the corrections and `validation` photos of the same kind that nothing was fitted
    on. Controls are compared with `base` (None: `start`). Every encoder looks once at each photo.
    Raises what `progress` raises.
    """
    examiner = Examiner(
        base or start,
        start,
        controls,
        (),
        significance=GateConfig().significance,
        progress=progress,
    )
    told = []
    for strength in strengths:
        scaled = {name: delta.scaled(strength) for name, delta in deltas.items()}
        encoder = start.merged_deltas(scaled, label=f"strength {strength}")
        rights = [examiner.answers(encoder, each, None).right for each in (task, validation)]
        corrections, unseen = (_percent(right) for right in rights)
        changes = examiner.changes(examiner.features(encoder))
        told.append(AtStrength(strength, corrections, unseen, changes))
    return told


def smallest_that_fixes(
    told: Sequence[AtStrength], share: float = GateConfig().min_fixed
) -> AtStrength | None:
    """The smallest strength at which so many corrections are right; None: at none."""
    fixed = [each for each in told if each.corrections >= 100 * share]
    return min(fixed, key=lambda each: each.strength, default=None)


def largest_within(told: Sequence[AtStrength]) -> AtStrength | None:
    """The largest strength at which every control set keeps its budget; None: at none.

    Smaller ones that break a budget are passed over: more change mostly costs more, not always.
    """
    kept = [each for each in told if each.within]
    return max(kept, key=lambda each: each.strength, default=None)


def _percent(right: Tensor) -> float:
    return 100 * right.float().mean().item()


def sweep(
    bed: Bed, config: MethodConfig, *, seed: int, strengths: Sequence[float] = (0.0, *TENTHS)
) -> list[AtStrength]:
    """One fit of all that the bed teaches, at each strength; `wide` counts beside the controls.

    Raises EditError.
    """
    none = bed.validation.at([])
    signs = sum(bed.batches, none)
    task = bed.task(signs, none)
    edit = fit(bed.base, task, config, seed=seed)
    return at_strengths(
        bed.base,
        edit.deltas,
        task=task,
        validation=bed.task(bed.validation, none),
        controls=[*bed.controls, bed.wide],
        strengths=strengths,
    )


def _line(told: AtStrength) -> str:
    changes = ", ".join(
        f"{each.name} {each.whole.after - each.whole.before:+.1f} ({each.whole.flips:.1f} % flips)"
        for each in told.controls
    )
    return (
        f"{told.strength:.1f}: corrections {told.corrections:.1f}, "
        f"validation {told.validation:.1f}, {changes}{'' if told.within else ', over a budget'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 stopped, with a sentence that says why."""
    parser = options_of("strengths", __doc__)
    parser.add_argument("--shots", type=int, default=20, help="training photos a class")
    parser.add_argument(
        "--strengths",
        type=float,
        nargs="+",
        default=(0.0, *TENTHS),
        help="of the edit, 1 is all of it (every tenth)",
    )
    options = parser.parse_args(arguments)
    path = options.out / f"strengths-{options.name}-seed{options.seed}.json"
    try:
        at = check_out(path, allow_dirty=options.allow_dirty)
        config = parse(options.method, json.loads(options.config))
        bed = load_bed(Lab(options.lab), shots=options.shots, seed=options.seed, updates=1)
        told = sweep(bed, config, seed=options.seed, strengths=options.strengths)
    except (DataSetError, DirtyTree, EditError, EncoderError, json.JSONDecodeError) as problem:
        print(f"stopped: {problem}", file=sys.stderr)
        return 1
    for each in told:
        say(_line(each))
    write_json(
        path,
        {
            "commit": at,
            "libraries": libraries(),
            "method": options.method,
            "config": config.model_dump(mode="json"),
            "shots": options.shots,
            "seed": options.seed,
            "base": bed.base.digest,
            "strengths": [each.to_json() for each in told],
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
