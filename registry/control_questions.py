"""The questions that control sets ask about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.control_sets import get_control_set, refuse_unkept
from registry.errors import ControlQuestionConflict
from registry.questions import (
    among,
    normalise_answer,
    normalise_options,
    normalise_question,
    question_digest,
)
from registry.session import take_turn
from registry.tables import ControlQuestion


@dataclass(frozen=True)
class NewControlQuestion:
    """`answer` is the expected one; None: the answer that the base encoder leads to. `options`:
    what the answer is chosen from; None: any text."""

    image_sha256: str
    question: str
    answer: str | None = None
    options: Sequence[str] | None = None


def checked_question(new: NewControlQuestion) -> NewControlQuestion:
    """Normalised. Raises QuestionInvalid, also for an answer that is not among the options."""
    options = None if new.options is None else normalise_options(new.options)
    answer = None if new.answer is None else normalise_answer(new.answer)
    if answer is not None and options is not None:
        answer = among(answer, options)
    return replaced(new, question=normalise_question(new.question), answer=answer, options=options)


def add_control_questions(
    session: Session, name: str, questions: Sequence[NewControlQuestion]
) -> int:
    """Add questions about kept images, all or none; how many were new. The same again changes
    nothing. Several may be asked about one image.

    Raises ControlSetMissing, QuestionInvalid, ArtifactMissing, ControlQuestionConflict.
    """
    take_turn(session)
    get_control_set(session, name)
    refuse_unkept(session, [one.image_sha256 for one in questions])
    added = 0
    for one in map(checked_question, questions):
        digest = question_digest(one.question)
        known = session.get(ControlQuestion, (name, one.image_sha256, digest))
        if known is None:
            row = ControlQuestion(
                control_set=name,
                image_sha256=one.image_sha256,
                question_sha256=digest,
                question=one.question,
                answer=one.answer,
                options=None if one.options is None else list(one.options),
            )
            session.add(row)
            added += 1
        elif (known.answer, known.options) != (one.answer, one.options):
            raise ControlQuestionConflict(
                control_set=name, image_sha256=one.image_sha256, question=one.question
            )
    session.flush()
    return added


def list_control_questions(session: Session, name: str) -> list[ControlQuestion]:
    """All questions of a set, by image and question."""
    query = select(ControlQuestion).where(ControlQuestion.control_set == name)
    order = (ControlQuestion.image_sha256, ControlQuestion.question_sha256)
    return list(session.scalars(query.order_by(*order)))
