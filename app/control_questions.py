"""Takes the questions in that control sets ask about images.

One image may be asked several questions, and one question may be asked about several images; else
there are as many questions as images, and each is asked about the image in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.errors import FieldInvalid, VlmNeeded
from app.services import Services
from app.uploads import Upload
from encoder.vlm.room import Room
from registry.control_questions import NewControlQuestion, add_control_questions, checked_question

QUESTIONS_LIMIT = 1000
KNOWN = ("question", "answer", "options")


@dataclass(frozen=True)
class Asked:
    """A question about one of the request's images, normalised."""

    image: int
    question: NewControlQuestion


def read_questions(upload: Upload) -> tuple[Asked, ...]:
    """The questions of a request, none where it only brings images.

    Raises `FieldInvalid`, `QuestionInvalid`.
    """
    templates = _of_objects(upload) or _of_fields(upload)
    if not templates:
        return ()
    if upload.texts("label"):
        raise FieldInvalid("label", "an image that is asked about has answers, not a label")
    images, count = len(upload.images), max(len(upload.images), len(templates))
    if len(templates) not in (1, images) and images != 1:
        reason = f"{len(templates)} questions for {images} images: one for all, or one an image"
        raise FieldInvalid("question", reason)
    if count > QUESTIONS_LIMIT:
        raise FieldInvalid("question", f"{count} questions; {QUESTIONS_LIMIT} at most")
    checked = [checked_question(each) for each in templates]
    return tuple(
        Asked(0 if images == 1 else place, checked[0 if len(checked) == 1 else place])
        for place in range(count)
    )


def check_answerable(services: Services, asked: tuple[Asked, ...]) -> None:
    """A question that the model cannot be asked would let every edit fail from then on.

    Raises `VlmNeeded`, `VlmAbsent`, `VlmLoading`, `VlmUnusable`, `NotReady`, and `PromptTooLong` or
    `AnswerTooLong` for a question that does not fit into the model's context.
    """
    if services.settings.vlm_source is None:
        raise VlmNeeded("to ask a control set's questions")
    room = Room(services.answers.model(), services.encoder.live()[1])
    for each in asked:
        given = each.question
        answers = given.options or ([given.answer] if given.answer is not None else [])
        room.check(given.question, answers)


def add_questions(session: Session, name: str, asked: tuple[Asked, ...], digests: list[str]) -> int:
    """Adds all or none; how many were new. ``digests`` are those of the request's images.

    Raises whatever `add_control_questions` raises.
    """
    new = [
        NewControlQuestion(digests[one.image], question.question, question.answer, question.options)
        for one in asked
        for question in (one.question,)
    ]
    return add_control_questions(session, name, new)


def _of_fields(upload: Upload) -> list[NewControlQuestion]:
    """From plain fields: the options are the same for all questions."""
    questions, options = upload.texts("question"), upload.texts("option")
    if not questions:
        for name in ("answer", "option"):
            if upload.texts(name):
                raise FieldInvalid(name, "it belongs to a question, and there is none")
        return []
    answers = upload.for_each("answer", len(questions), of="questions")
    return [
        NewControlQuestion("", question, answer, options or None)
        for question, answer in zip(questions, answers, strict=True)
    ]


def _of_objects(upload: Upload) -> list[NewControlQuestion]:
    """From JSON's ``{"question", "answer", "options"}``, where each has options of its own."""
    objects = upload.objects.get("question", ())
    if objects:
        for name in ("question", "answer", "option"):
            if upload.texts(name):
                raise FieldInvalid(name, "each of the questions brings its own")
    return [_of_object(each, f"question[{place}]") for place, each in enumerate(objects)]


def _of_object(given: Mapping[str, Any], field: str) -> NewControlQuestion:
    for name in given:
        if name not in KNOWN:
            raise FieldInvalid(f"{field}.{name}", f"unknown field; known: {', '.join(KNOWN)}")
    question, answer, options = (given.get(name) for name in KNOWN)
    if not isinstance(question, str):
        raise FieldInvalid(f"{field}.question", "the question's text is needed")
    if not isinstance(answer, str | None):
        raise FieldInvalid(f"{field}.answer", "text or null was expected")
    if options is not None and not (
        isinstance(options, list) and all(isinstance(one, str) for one in options)
    ):
        raise FieldInvalid(f"{field}.options", "a list of texts or null was expected")
    return NewControlQuestion("", question, answer, options)
