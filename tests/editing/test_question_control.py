from __future__ import annotations

import pytest
import torch

from editing.errors import InvalidTask
from editing.question_control import QuestionControl
from editing.questions import Questions
from encoder.clip import Encoder
from encoder.vlm.model import VisionLanguageModel
from tests.editing.test_questions import OPTIONS, asked, shaken
from tests.support.tiny_encoder import tiny_encoder

BASE = pytest.fixture(name="base", scope="module")(tiny_encoder)


def control(
    base: Encoder,
    questions: Questions,
    *,
    known: int = 0,
    budget: float = 10.0,
    flip_budget: float | None = None,
    seen: torch.Tensor | None = None,
) -> QuestionControl:
    """The first `known` expect what the base answers."""
    answers = questions.answers(base, lambda: None)
    expected = tuple(text if row < known else None for row, text in enumerate(answers))
    return QuestionControl("quiz", questions, expected, answers, budget, flip_budget, seen)


def test_the_base_encoder_keeps_every_budget(base: Encoder, tiny_vlm: VisionLanguageModel) -> None:
    these = control(base, asked(tiny_vlm), known=20, budget=0, flip_budget=0)
    change = these.change(base, lambda: None, significance=0.05)
    assert change.within
    assert (change.kind, change.whole.n, change.whole.flips) == ("vqa", 40, 0)
    assert (change.whole.before, change.whole.after) == (100, 100)


def test_answers_that_are_lost_break_the_budget_of_their_kind(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    other, questions = shaken(base), asked(tiny_vlm)
    before, after = (questions.answers(each, lambda: None) for each in (base, other))
    flips = [one != two for one, two in zip(before, after, strict=True)]
    lost = 100 * sum(flips[:20]) / 20
    assert lost > 0
    these = control(base, questions, known=20, budget=100, flip_budget=100)
    change = these.change(other, lambda: None, significance=0.05)
    assert change.within
    assert change.whole.flips == pytest.approx(100 * sum(flips) / 40)
    assert change.whole.after == pytest.approx(100 - lost)
    strict = control(base, questions, known=20, budget=0, flip_budget=100)
    change = strict.change(other, lambda: None, significance=0.05)
    assert not change.within
    assert "20 questions with an expected answer" in change.complaint
    assert change.to_json()["kind"] == "vqa"
    assert change.to_json()["losses"][0]["lost"] == pytest.approx(lost)
    unanswered = control(base, questions, budget=100, flip_budget=0)
    complaint = unanswered.change(other, lambda: None, significance=0.05).complaint
    assert "40 questions without an expected answer" in complaint


def test_what_trained_the_guard_is_told_apart(base: Encoder, tiny_vlm: VisionLanguageModel) -> None:
    questions = asked(tiny_vlm, images=4)
    seen = torch.tensor([True, False, False, False] * 2)
    change = control(base, questions, seen=seen).change(base, lambda: None, significance=0.05)
    assert (change.whole.n, change.unseen.n) == (8, 6)


def test_a_control_without_questions_or_answers_is_refused(tiny_vlm: VisionLanguageModel) -> None:
    questions = asked(tiny_vlm, images=1)
    with pytest.raises(InvalidTask, match="'quiz' has 2 questions"):
        QuestionControl("quiz", questions, (None,), OPTIONS[:2], 1.0, None)
