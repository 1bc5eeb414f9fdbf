"""Fitting and judging: from a training set to deltas at the strength that the gate chose."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from editing.gate import GateConfig, GateReport, judge
from editing.methods import Fit, MethodConfig, fit
from editing.progress import Progress
from encoder.clip import Encoder
from encoder.deltas import Delta
from worker.control_sets import Controls
from worker.training_set import TrainingPlan, TrainingSet


@dataclass(frozen=True)
class Candidate:
    """A judged edit; its deltas are at `strength` already.

    `answers` are the labels given before and after, by correction id, for the job's own.
    """

    deltas: Mapping[str, Delta]
    parameters: int
    strength: float
    promoted: bool
    reason: str
    report: Mapping[str, Any]
    answers: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a candidate is made from. `start` is what it is fitted on: the base, or the parent.

    `gathering` is how many seconds it took to bring all this together.
    """

    base: Encoder
    parent: Encoder
    start: Encoder
    plan: TrainingPlan
    training: TrainingSet
    controls: Controls
    gathering: float


def make_candidate(
    bench: Bench, config: MethodConfig, gate: GateConfig, *, seed: int, progress: Progress
) -> Candidate:
    """Fits the training set and judges the result. Raises editing.errors.EditError."""
    began = time.monotonic()
    fitted = fit(bench.start, bench.training.task, config, seed=seed, progress=progress)
    trained = time.monotonic()
    verdict, strength = judge(
        base=bench.base,
        parent=bench.parent,
        start=bench.start,
        make_candidate=lambda strength: bench.start.merged_deltas(
            _scaled(fitted, strength), label=f"candidate at strength {strength}"
        ),
        task=bench.training.judged,
        controls=bench.controls.sets,
        config=gate,
        progress=progress,
    )
    seconds = {
        "gathering": bench.gathering,
        "fitting": trained - began,
        "gating": time.monotonic() - trained,
    }
    return Candidate(
        deltas=_scaled(fitted, strength),
        parameters=fitted.parameters,
        strength=strength,
        promoted=verdict.verdict == "promoted",
        reason=verdict.reason,
        report={**verdict.to_json(), **_facts(bench, fitted), "seconds": seconds},
        answers=_answers(bench, verdict),
    )


def empty_candidate() -> Candidate:
    """For a job whose corrections were all forgotten: the base encoder as it is."""
    reason = "no correction is left to fit: the base encoder as it is"
    nothing = {"n": 0, "before": 100.0, "after": 100.0}
    report = {
        "verdict": "promoted",
        "reason": reason,
        "strength": 1.0,
        "corrections": nothing,
        "held_out": None,
        "earlier": None,
        "controls": [],
    }
    return Candidate({}, 0, 1.0, promoted=True, reason=reason, report=report)


def _scaled(fitted: Fit, strength: float) -> dict[str, Delta]:
    if strength == 1:
        return dict(fitted.deltas)
    return {name: delta.scaled(strength) for name, delta in fitted.deltas.items()}


def _facts(bench: Bench, fitted: Fit) -> dict[str, Any]:
    """What the contract does not ask for, and a reader of the report will."""
    summary = {name: value for name, value in fitted.summary.items() if name != "losses"}
    return {
        "fitted_on": {
            "new": len(bench.plan.new),
            "earlier": len(bench.plan.earlier),
            "stacked": bench.plan.stacked,
            "guard_images": len(bench.controls.guard_pixels),
        },
        "bundled_controls": bench.controls.bundled,
        "training": summary,
    }


def _answers(bench: Bench, verdict: GateReport) -> dict[str, tuple[str, str]]:
    label = bench.training.vocabulary.label
    rows = zip(
        bench.plan.new,
        verdict.answers_before.tolist(),
        verdict.answers_after.tolist(),
        strict=False,  # the new corrections are the first of those that were judged
    )
    return {each.id: (label(before), label(after)) for each, before, after in rows}
