"""The gate where a vision-language model answers: control questions, and corrected answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from editing.gate import GateConfig
from editing.questions import AskedCorrections, Questions
from encoder.clip import Encoder
from encoder.vlm.model import VisionLanguageModel
from tests.editing.test_gate import ask, candidates, push, solved_by
from tests.editing.test_question_control import control
from tests.editing.test_questions import OPTIONS, WHAT, asked, chosen
from tests.support.edit_task import control_set
from tests.support.tiny_encoder import random_pixels, tiny_encoder

BASE = pytest.fixture(name="base", scope="module")(tiny_encoder)


ANY_FIX = GateConfig(strength_steps=20, min_fixed=0)


def said(questions: Questions, encoder: Encoder) -> tuple[str, ...]:
    return questions.answers(encoder, lambda: None)


def flips(questions: Questions, base: Encoder, candidate: Encoder) -> float:
    """Percent of the answers."""
    pairs = list(zip(said(questions, base), said(questions, candidate), strict=True))
    return 100 * sum(one != two for one, two in pairs) / len(pairs)


def test_an_edit_that_would_break_answers_is_weakened(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    questions, at = chosen(tiny_vlm), candidates(base, push(base))
    budget = flips(questions, base, at(1)) / 2
    assert budget > flips(questions, base, at(0.05))
    quiz = control(base, questions, budget=budget)
    report, strength = ask(base, solved_by(base), [], config=ANY_FIX, questions=[quiz])
    assert 0 < strength < 1
    assert report.verdict == "promoted"
    assert report.controls[0].whole.flips == pytest.approx(flips(questions, base, at(strength)))
    assert flips(questions, base, at(strength)) <= budget
    assert flips(questions, base, at(strength + 0.05)) > budget
    [entry] = report.to_json()["controls"]
    assert (entry["name"], entry["kind"], entry["n"]) == ("quiz", "vqa", 40)


def test_an_edit_that_breaks_answers_at_any_strength_is_refused(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    answers = said(asked(tiny_vlm), base)
    quiz = control(base, asked(tiny_vlm), budget=0)
    another = replace(quiz, base_answers=("never said", *answers[1:]), flip_budget=0.0)
    report, strength = ask(base, solved_by(base), [], questions=[another])
    assert (report.verdict, strength) == ("refused", 1.0)
    assert "control set 'quiz' loses" in report.reason


def test_questions_are_asked_only_where_images_keep_their_budgets(
    base: Encoder, tiny_vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiz = control(base, asked(tiny_vlm, images=4), budget=100)
    images = control_set(base, budget=12.5, labelled=True)
    calls: list[Encoder] = []
    answers = Questions.answers

    def counted(self: Questions, encoder: Encoder, tell: Callable[[], None]) -> tuple[str, ...]:
        calls.append(encoder)
        return answers(self, encoder, tell)

    monkeypatch.setattr(Questions, "answers", counted)
    report, strength = ask(base, solved_by(base), [images], questions=[quiz])
    assert 0 < strength < 1
    assert [change.kind for change in report.controls] == ["classification", "vqa"]
    assert 2 <= len(calls) <= 4  # at full strength, and where the images were kept


def corrections(vlm: VisionLanguageModel, right: tuple[str, ...]) -> AskedCorrections:
    """Of the first images of `solved_by`: each with all options to choose from."""
    count = len(right)
    questions = Questions(
        vlm, random_pixels(20)[:count], torch.arange(count), (WHAT,) * count, (OPTIONS,) * count
    )
    return AskedCorrections(torch.arange(count), questions, right)


def test_a_corrected_answer_is_right_where_the_model_gives_it(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    candidate = candidates(base, push(base))(1)
    questions = corrections(tiny_vlm, ("", "", "")).questions
    before, after = said(questions, base), said(questions, candidate)
    wrong = solved_by(candidate, wrong=3)  # by their labels alone, the first three are not learnt
    learnt = corrections(tiny_vlm, after)
    report, _ = ask(base, wrong, [], asked=learnt)
    assert report.verdict == "promoted"
    assert report.corrections.after == 20
    assert report.before.said == dict(enumerate(before))
    assert report.after.said == dict(enumerate(after))
    unlearnt = corrections(
        tiny_vlm, tuple(OPTIONS[0 if each != OPTIONS[0] else 1] for each in after)
    )
    report, _ = ask(base, solved_by(candidate), [], asked=unlearnt)
    assert report.verdict == "refused"
    assert report.corrections.after == 17
