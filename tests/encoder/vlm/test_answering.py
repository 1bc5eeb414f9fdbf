from __future__ import annotations

import pytest

from encoder.vlm.answering import Question, Reply, answer_questions
from encoder.vlm.decoding import generate
from encoder.vlm.errors import OptionBlank, PromptTooLong
from encoder.vlm.model import VisionLanguageModel
from encoder.vlm.options import OptionScore, score_options
from encoder.vlm.sampling import Sampling
from tests.support.tiny_encoder import random_pixels, tiny_encoder

OPTIONS = ("a stop sign", "a cat", "yes")


def test_free_questions_and_choices_are_answered_in_order(tiny_vlm: VisionLanguageModel) -> None:
    first, second = tiny_vlm.image_tokens(tiny_encoder(), random_pixels(2))
    questions = [
        Question("What is this?", first, OPTIONS),
        Question("Why?", second),
        Question("Is this a cat?", first, OPTIONS[::-1]),
        Question("What is the capital?", None),
    ]
    replies = answer_questions(tiny_vlm, questions, max_tokens=6)
    prompts = [tiny_vlm.question(question.text, question.image) for question in questions]
    for index in (0, 2):
        (scores,) = score_options(tiny_vlm, [prompts[index]], [questions[index].options])
        assert [each.option for each in replies[index].options] == list(questions[index].options)
        best = max(scores, key=lambda each: each.log_likelihood)
        assert replies[index].answer == best.option
    for index in (1, 3):
        (answer,) = generate(tiny_vlm, [prompts[index]], [Sampling(6)])
        assert replies[index] == Reply(answer.text.strip())
        assert replies[index].by_mean == replies[index].answer


def test_more_questions_than_fit_at_once(
    tiny_vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoder.vlm.answering._TOGETHER", 3)
    images = tiny_vlm.image_tokens(tiny_encoder(), random_pixels(7))
    questions = [Question("What is this?", image, OPTIONS) for image in images]
    replies = answer_questions(tiny_vlm, questions)
    for question, reply in zip(questions, replies, strict=True):
        (alone,) = answer_questions(tiny_vlm, [question])
        assert [each.log_likelihood for each in reply.options] == pytest.approx(
            [each.log_likelihood for each in alone.options], abs=1e-4
        )


def test_the_answer_by_mean_weighs_an_option_by_its_length() -> None:
    reply = Reply("no", (OptionScore("no", -4.0, 2), OptionScore("a long one", -5.0, 5)))
    assert reply.by_mean == "a long one"


def test_what_cannot_be_asked_is_refused(tiny_vlm: VisionLanguageModel) -> None:
    with pytest.raises(PromptTooLong):
        answer_questions(tiny_vlm, [Question("why " * 1000, None)])
    with pytest.raises(OptionBlank):
        answer_questions(tiny_vlm, [Question("Why?", None, ("a", ""))])
    assert answer_questions(tiny_vlm, []) == []
