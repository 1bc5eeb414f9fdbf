"""Corrections of answers: how they are judged and taught where there is a vision-language model.

Then its own answer counts: the right one must be likelier than the wrong one, or be the greedy text
where nobody said what was wrong. Without a model their captions are learnt and judged like labels.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch

from editing.answer_task import AnswerTask
from editing.questions import AskedCorrections
from encoder.vlm.room import Room
from registry.tables import Correction
from worker.control_questions import asked_by, gather_questions
from worker.errors import VlmNeeded
from worker.language_model import LanguageModel
from worker.stored_images import ImageReader, Wanted


@dataclass(frozen=True)
class Asker:
    """Puts corrections to the model of one base encoder."""

    model: LanguageModel
    reader: ImageReader

    def asked(
        self, corrections: Sequence[Correction], *, by_likelihood: bool
    ) -> AskedCorrections | None:
        """Those that came with a question, if there is a model to judge them; `by_likelihood`: they
        are to be taught by it.

        Raises VlmNeeded where there is none and one of them can or shall not be learnt without;
        QuestionUnaskable, ImageUnreadable, StorageUnavailable, and what loading the model raises.
        """
        rows = [row for row, each in enumerate(corrections) if each.question]
        some = [corrections[row] for row in rows]
        vlm = self.model.find() if some else None
        if vlm is None:
            _refuse_unteachable(some, by_likelihood=by_likelihood)
            return None
        wanted = {
            str(each.image_sha256): Wanted(str(each.image_sha256), f"correction {each.id}")
            for each in some
        }
        pixels = self.reader.read_as(
            list(wanted.values()), lambda image: vlm.pixels(self.model.base, image)
        )
        questions = gather_questions(
            vlm,
            [str(each.image_sha256) for each in some],
            dict(zip(wanted, pixels, strict=True)).__getitem__,
            [each.question for each in some],
            [_options(each) for each in some],
        )
        room = Room(vlm, self.model.base)
        for each in some:
            with asked_by(f"correction {each.id}"):
                room.check(each.question, _answers(each))
        right = tuple(str(each.answer) for each in some)
        return AskedCorrections(torch.tensor(rows), questions, right)


def answers_of(asked: AskedCorrections, rows: Container[int], *, new: int) -> AnswerTask | None:
    """What the corrections at these rows teach the model, of which the first `new` are the job's
    own; None where no answer is among them."""
    chosen = [place for place, row in enumerate(asked.rows.tolist()) if row in rows]
    if not chosen:
        return None
    questions = asked.questions
    return AnswerTask(
        questions.vlm,
        questions.pixels[questions.rows[chosen]],
        tuple(questions.texts[place] for place in chosen),
        tuple(asked.right[place] for place in chosen),
        tuple(questions.options[place][1:] for place in chosen),
        new=asked.rows[chosen] < new,
    )


def _options(correction: Correction) -> tuple[str, ...]:
    """The right answer and the wrong one; none where only the right one is known."""
    return () if correction.wrong_answer is None else _answers(correction)


def _answers(correction: Correction) -> tuple[str, ...]:
    answers = (correction.answer, correction.wrong_answer)
    return tuple(each for each in answers if each is not None)


def _refuse_unteachable(corrections: Sequence[Correction], *, by_likelihood: bool) -> None:
    """For where there is no model. Raises VlmNeeded."""
    for each in corrections:
        if by_likelihood:
            raise VlmNeeded(f"correction {each.id} is to be taught by the likelihood of its answer")
        if not each.label:
            raise VlmNeeded(
                f"the answer of correction {each.id} implies no caption, so that only its"
                " likelihood can teach it"
            )
