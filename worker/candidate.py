"""Fitting and judging: from a training set to deltas at the strength that the gate chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from editing.examiner import Answers
from editing.gate import GateConfig, GateReport, judge
from editing.judged_fit import JudgedFit, fit_and_judge
from editing.methods import Fit, MethodConfig
from editing.progress import Progress
from editing.question_control import QuestionControl
from encoder.clip import Encoder
from encoder.deltas import Delta
from encoder.vlm.reading import unreached
from worker.control_sets import Controls
from worker.training_set import TrainingPlan, TrainingSet

Answer = Mapping[str, str]


@dataclass(frozen=True)
class Candidate:
    """A judged edit; its deltas are at `strength` already. `config` is what it was fitted by.

    `answers` are those given before and after, by correction id, for the job's own: the encoder's
    "label", and the "answer" of the vision-language model where it was asked.
    """

    deltas: Mapping[str, Delta]
    config: MethodConfig
    parameters: int
    strength: float
    promoted: bool
    reason: str
    report: Mapping[str, Any]
    answers: Mapping[str, tuple[Answer, Answer]] = field(default_factory=dict)


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
    questions: tuple[QuestionControl, ...]
    gathering: float


def make_candidate(
    bench: Bench, config: MethodConfig, gate: GateConfig, *, seed: int, progress: Progress
) -> Candidate:
    """Fits the training set and judges the result. Raises editing.errors.EditError."""
    made = fit_and_judge(
        bench.start,
        bench.training.task,
        config,
        lambda candidate: judge(
            base=bench.base,
            parent=bench.parent,
            start=bench.start,
            make_candidate=candidate,
            task=bench.training.judged,
            controls=bench.controls.sets,
            config=gate,
            questions=bench.questions,
            asked=bench.training.asked,
            progress=progress,
        ),
        seed=seed,
        progress=progress,
    )
    return Candidate(
        deltas=made.fitted.at(made.strength),
        config=made.config,
        parameters=made.fitted.parameters,
        strength=made.strength,
        promoted=made.report.verdict == "promoted",
        reason=made.report.reason,
        report={**made.report.to_json(), **_facts(bench, made)},
        answers=_answers(bench, made.report),
    )


def empty_candidate(config: MethodConfig) -> Candidate:
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
    return Candidate({}, config, 0, 1.0, promoted=True, reason=reason, report=report)


def _facts(bench: Bench, made: JudgedFit) -> dict[str, Any]:
    """What the contract does not ask for, and a reader of the report will."""
    fitted = made.fitted
    summary = {name: value for name, value in fitted.summary.items() if name != "losses"}
    return {
        "fitted_on": {
            "new": len(bench.plan.new),
            "earlier": len(bench.plan.earlier),
            "answers": len(answers) if (answers := bench.training.task.answers) else 0,
            "stacked": bench.plan.stacked,
            "guard_images": len(bench.controls.guard_pixels),
        },
        "bundled_controls": bench.controls.bundled,
        "vlm": _model_facts(bench, fitted),
        **made.to_json(),
        "training": summary,
        "seconds": {
            "gathering": bench.gathering,
            "fitting": made.fitting_seconds,
            "gating": made.gating_seconds,
        },
    }


def _model_facts(bench: Bench, fitted: Fit) -> dict[str, Any] | None:
    """Which model was asked, and how many of the numbers that were trained it cannot see."""
    asked = [each.questions for each in bench.questions]
    asked += [bench.training.asked.questions] if bench.training.asked else []
    if not asked:
        return None
    vlm = asked[0].vlm
    missed = unreached(vlm.reading, bench.base.tower, fitted.deltas)
    parameters = sum(fitted.deltas[name].parameters for name in missed)
    return {"name": vlm.name, "questions": sum(map(len, asked)), "unreached": parameters}


def _answers(bench: Bench, verdict: GateReport) -> dict[str, tuple[Answer, Answer]]:
    before, after = (_told(bench, each) for each in (verdict.before, verdict.after))
    rows = zip(bench.plan.new, before, after, strict=False)  # the new ones were judged first
    return {each.id: (earlier, later) for each, earlier, later in rows}


def _told(bench: Bench, answers: Answers) -> list[Answer]:
    label = bench.training.vocabulary.label
    told = [{"label": label(row)} for row in answers.rows.tolist()]
    for row, text in answers.said.items():
        told[row]["answer"] = text
    return list(told)
