from __future__ import annotations

import pytest
import torch

from editing.errors import InvalidTask
from editing.questions import AskedCorrections, Questions, numbered, plain
from encoder.clip import Encoder
from encoder.deltas import LowRank
from encoder.vlm.answering import Question, answer_questions
from encoder.vlm.model import VisionLanguageModel
from tests.support.tiny_encoder import random_pixels, tiny_encoder

BASE = pytest.fixture(name="base", scope="module")(tiny_encoder)
WHAT = "What is this?"
OPTIONS = ("a cat", "a sign", "yes no")


def asked(vlm: VisionLanguageModel, *, images: int = 20) -> Questions:
    """Two questions an image: one with options, one without; those with options come first."""
    rows = torch.arange(images).repeat(2)
    texts = (WHAT,) * images + ("Is this a cat?",) * images
    options = (OPTIONS,) * images + ((),) * images
    return Questions(vlm, random_pixels(images), rows, texts, options)


def chosen(vlm: VisionLanguageModel, *, images: int = 40) -> Questions:
    """One question an image, with options: free answers of a model of noise change at a touch."""
    options = (OPTIONS,) * images
    return Questions(vlm, random_pixels(images), torch.arange(images), (WHAT,) * images, options)


def shaken(base: Encoder) -> Encoder:
    """Another version, which sees everything differently."""
    generator = torch.Generator().manual_seed(1)
    deltas = {}
    for name in (name for block in base.tower.blocks for name in block.attention):
        height, width = base.model.get_parameter(name).shape
        up, down = (torch.randn(*size, generator=generator) for size in ((height, 2), (2, width)))
        deltas[name] = LowRank(down=down, up=up, scale=1.0)
    return base.merged_deltas(deltas, label="shaken")


def test_answers_come_in_the_order_of_the_questions(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    questions = asked(tiny_vlm)
    told: list[None] = []
    answers = questions.answers(base, lambda: told.append(None))
    assert len(told) == 2  # of 16 and of 4 images
    tokens = tiny_vlm.image_tokens(base, questions.pixels)
    for row in (0, 17, 19, 20, 39):
        alone = Question(questions.texts[row], tokens[row % 20], questions.options[row])
        [reply] = answer_questions(tiny_vlm, [alone])
        assert answers[row] == reply.answer


def test_the_likeliest_option_answers_though_another_is_likelier_a_token(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    options = ("a", "a stop sign and a red fox and a cat")
    questions = Questions(tiny_vlm, random_pixels(1), torch.zeros(1).long(), (WHAT,), (options,))
    [tokens] = tiny_vlm.image_tokens(base, questions.pixels)
    [reply] = answer_questions(tiny_vlm, [Question(WHAT, tokens, options)])
    assert (reply.answer, reply.by_mean) == options, "the case is made for one that differs"
    assert questions.answers(base, lambda: None) == (reply.answer,)


def test_another_version_of_the_encoder_answers_differently(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    questions = asked(tiny_vlm)
    before, after = (questions.answers(each, lambda: None) for each in (base, shaken(base)))
    assert before != after
    assert questions.answers(base, lambda: None) == before


def test_questions_must_fit_together(tiny_vlm: VisionLanguageModel) -> None:
    with pytest.raises(InvalidTask, match="1 questions, 2 images"):
        Questions(tiny_vlm, random_pixels(2), torch.arange(2), (WHAT,), (OPTIONS,))


def test_answers_are_the_same_without_case_spaces_and_a_full_stop() -> None:
    assert plain(" A  red Fox. ") == "a red fox"
    numbers = numbered(["A fox.", "a  fox", "a dog", None]).tolist()
    assert numbers[0] == numbers[1] != numbers[2]
    assert numbers[3] == -1
    assert min(numbers[:3]) >= 0


def test_a_correction_is_right_where_the_model_says_so(
    base: Encoder, tiny_vlm: VisionLanguageModel
) -> None:
    questions = asked(tiny_vlm, images=2)
    answers = questions.answers(base, lambda: None)
    right = (answers[0].upper(), "nothing it says", *answers[2:])
    corrections = AskedCorrections(torch.arange(4), questions, right)
    assert corrections.is_right(answers).tolist() == [True, False, True, True]
