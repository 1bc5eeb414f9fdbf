"""The questions of the registry's control sets, with the base encoder's answers.

These answers never change, so they stay in this process between jobs, and so do the pixels.

Legend: M questions, U different images, S image side of the vision-language model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from editing.progress import Progress, silent
from editing.question_control import QuestionControl
from editing.questions import Questions
from encoder.vlm.errors import PromptError
from encoder.vlm.model import VisionLanguageModel
from worker.control_sets import Budgets
from worker.errors import QuestionUnaskable
from worker.language_model import LanguageModel
from worker.stored_images import ImageReader, Wanted

QUESTIONS_AT_MOST = 1000
"""Of one control set, by image and question: each is asked at every strength that is tried."""


@dataclass(frozen=True)
class PlannedQuestion:
    """A control set's question as plain facts; without options any text is an answer."""

    image_sha256: str
    text: str
    answer: str | None
    options: tuple[str, ...]


@dataclass(frozen=True)
class QuestionPlan:
    """What one control set asks."""

    name: str
    questions: tuple[PlannedQuestion, ...]
    budget: float | None


Said = tuple[str, str, tuple[str, ...]]
"""Image, question and options of a base answer that is kept."""


@dataclass
class QuestionLoader:
    """Loads control questions for one base encoder; keeps the answers of the last ones."""

    model: LanguageModel
    reader: ImageReader
    budgets: Budgets
    _pixels: dict[str, Tensor] = field(default_factory=dict)  # uint8 [3, S, S] by sha256
    _answers: dict[Said, str] = field(default_factory=dict)

    def load(
        self,
        plans: Sequence[QuestionPlan],
        *,
        guarded: Collection[str],
        progress: Progress = silent,
    ) -> tuple[QuestionControl, ...]:
        """`guarded` are the hashes of images that the guard term trains on.

        Raises VlmNeeded, QuestionUnaskable, ImageUnreadable, StorageUnavailable, what loading the
        model raises, what progress raises.
        """
        asking = [plan for plan in plans if plan.questions]
        self._forget_all_but(asking)
        return tuple(self._control(plan, guarded, progress) for plan in asking)

    def _control(
        self, plan: QuestionPlan, guarded: Collection[str], progress: Progress
    ) -> QuestionControl:
        vlm = self.model.needed(f"control set {plan.name!r} asks {len(plan.questions)} questions")
        asked = plan.questions
        self._read(vlm, plan)
        self._answer(vlm, plan, progress)
        budgets = self.budgets.of_set(
            plan.budget, labelled=any(each.answer is not None for each in asked)
        )
        return QuestionControl(
            name=plan.name,
            questions=self._questions(vlm, asked),
            expected=tuple(each.answer for each in asked),
            base_answers=tuple(self._answers[_said(each)] for each in asked),
            budget=budgets.forgetting,
            flip_budget=budgets.flips,
            seen=torch.tensor([each.image_sha256 in guarded for each in asked]),
        )

    def _read(self, vlm: VisionLanguageModel, plan: QuestionPlan) -> None:
        images = dict.fromkeys(each.image_sha256 for each in plan.questions)
        owner = f"control set {plan.name!r}"
        missing = [Wanted(sha256, owner) for sha256 in images if sha256 not in self._pixels]
        pixels = self.reader.read_as(missing, lambda image: vlm.pixels(self.model.base, image))
        self._pixels.update(zip((each.image_sha256 for each in missing), pixels, strict=True))

    def _answer(self, vlm: VisionLanguageModel, plan: QuestionPlan, progress: Progress) -> None:
        missing = [each for each in plan.questions if _said(each) not in self._answers]
        done = 0

        def tell() -> None:
            nonlocal done
            progress("waiting", min(done, len(missing)), len(missing), None)
            done += 1

        with asked_by(f"control set {plan.name!r}"):
            answers = self._questions(vlm, missing).answers(self.model.base, tell)
        self._answers.update(zip(map(_said, missing), answers, strict=True))

    def _questions(self, vlm: VisionLanguageModel, asked: Sequence[PlannedQuestion]) -> Questions:
        images = [each.image_sha256 for each in asked]
        return gather_questions(
            vlm,
            images,
            self._pixels.__getitem__,
            [each.text for each in asked],
            [each.options for each in asked],
        )

    def _forget_all_but(self, plans: Sequence[QuestionPlan]) -> None:
        asked = {_said(each) for plan in plans for each in plan.questions}
        images = {image for image, _, _ in asked}
        self._answers = {said: text for said, text in self._answers.items() if said in asked}
        self._pixels = {sha256: each for sha256, each in self._pixels.items() if sha256 in images}


def gather_questions(
    vlm: VisionLanguageModel,
    images: Sequence[str],
    pixels_of: Callable[[str], Tensor],
    texts: Sequence[str],
    options: Sequence[tuple[str, ...]],
) -> Questions:
    """Questions about images by hash, each different image once."""
    places = {sha256: place for place, sha256 in enumerate(dict.fromkeys(images))}
    side = vlm.reading.image_size
    different = [pixels_of(sha256) for sha256 in places]
    return Questions(
        vlm,
        torch.stack(different) if different else torch.empty(0, 3, side, side, dtype=torch.uint8),
        torch.tensor([places[sha256] for sha256 in images], dtype=torch.long),
        tuple(texts),
        tuple(options),
    )


@contextmanager
def asked_by(owner: str) -> Iterator[None]:
    """Raises QuestionUnaskable for a question that cannot be put to the model."""
    try:
        yield
    except PromptError as error:
        raise QuestionUnaskable(owner, str(error)) from error


def _said(each: PlannedQuestion) -> Said:
    return each.image_sha256, each.text, each.options


def bounded(questions: Sequence[PlannedQuestion]) -> tuple[PlannedQuestion, ...]:
    """As many as are asked; which these are is always the same for questions in the same order."""
    return tuple(questions[:QUESTIONS_AT_MOST])
