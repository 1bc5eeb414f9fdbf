"""What an edit starts from: its corrections, label sets and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from registry.control_questions import list_control_questions
from registry.control_sets import list_control_images, list_control_sets
from registry.corrections import corrections_of, job_corrections
from registry.label_sets import get_label_set, list_label_sets
from registry.lineage import Learnt, knows_forgotten, learnt_corrections
from registry.session import reading
from registry.tables import Correction, EditJob, LabelSet
from worker.control_questions import PlannedQuestion, QuestionPlan, bounded
from worker.control_sets import ControlPlan, plan_images


@dataclass(frozen=True)
class Facts:
    """All that the database knows about a claimed job.

    `new` are its own corrections that still stand, `live` as much as it takes to draw from those
    that the live version's lineage was fitted on. `must_forget`: the live version was fitted on a
    correction that was forgotten since.
    """

    new: tuple[Correction, ...]
    live: tuple[Learnt, ...]
    must_forget: bool
    label_sets: dict[str, LabelSet]
    controls: tuple[ControlPlan, ...]
    questions: tuple[QuestionPlan, ...]


def read_facts(engine: Engine, job: EditJob, parent: int) -> Facts:
    """One short reading transaction. Raises AdapterMissing."""
    with reading(engine) as session:
        return Facts(
            new=tuple(job_corrections(session, job.id)),
            live=tuple(learnt_corrections(session, parent)),
            must_forget=knows_forgotten(session, parent),
            label_sets={row.name: row for row in list_label_sets(session)},
            controls=control_plans(session),
            questions=question_plans(session),
        )


def read_corrections(engine: Engine, ids: Sequence[str]) -> list[Correction]:
    """Those that still stand, oldest first."""
    with reading(engine) as session:
        return corrections_of(session, ids)


def control_plans(session: Session) -> tuple[ControlPlan, ...]:
    """What the registry's control sets classify, by name."""
    plans = []
    for row in list_control_sets(session):
        if row.label_set is None:  # it only asks questions
            continue
        label_set = get_label_set(session, row.label_set)
        images = list_control_images(session, row.name)
        plans.append(
            ControlPlan(
                name=row.name,
                labels=tuple(label_set.labels),
                templates=tuple(label_set.templates),
                images=plan_images({image.image_sha256: image.label for image in images}),
                budget=row.budget,
            )
        )
    return tuple(plans)


def question_plans(session: Session) -> tuple[QuestionPlan, ...]:
    """What the registry's control sets ask, by name."""
    return tuple(
        QuestionPlan(
            row.name,
            bounded(
                [
                    PlannedQuestion(
                        each.image_sha256, each.question, each.answer, tuple(each.options or ())
                    )
                    for each in list_control_questions(session, row.name)
                ]
            ),
            row.budget,
        )
        for row in list_control_sets(session)
    )


def is_forgotten(engine: Engine, image_sha256: str) -> bool:
    """Whether no correction names this image any more."""
    named = select(Correction.id).where(Correction.image_sha256 == image_sha256).limit(1)
    with reading(engine) as session:
        return session.scalar(named) is None
