"""Questions that a tiny vision-language model answers at random, to be put right."""

from __future__ import annotations

from editing.answer_task import AnswerTask
from editing.fewshot import EditTask
from encoder.clip import Encoder
from encoder.vlm.answering import score_options
from encoder.vlm.model import VisionLanguageModel
from tests.support.tiny_encoder import random_pixels

QUESTION = "What is this?"
OPTIONS = ("stop", "yield", "a cat")


def preferred(vlm: VisionLanguageModel, encoder: Encoder, task: AnswerTask) -> list[str]:
    """Of the right and the wrong answers to each question, the one that is likelier."""
    images = vlm.image_tokens(encoder, task.pixels)
    asked = zip(task.questions, images, strict=True)
    prompts = [vlm.question(question, image) for question, image in asked]
    options = [(right, *wrong) for right, wrong in zip(task.right, task.wrong, strict=True)]
    rows = score_options(vlm, prompts, options)
    return [max(row, key=lambda each: each.log_likelihood).option for row in rows]


def answer_task(
    vlm: VisionLanguageModel,
    encoder: Encoder,
    *,
    images: int = 3,
    wrong: bool = True,
    seed: int = 5,
) -> AnswerTask:
    """One question about each image of noise; right is an option that the model does not prefer."""
    pixels = random_pixels(images, seed=seed)
    asked = AnswerTask(
        vlm, pixels, (QUESTION,) * images, (OPTIONS[0],) * images, (OPTIONS[1:],) * images
    )
    now = preferred(vlm, encoder, asked)
    right = tuple(OPTIONS[(OPTIONS.index(each) + 1) % len(OPTIONS)] for each in now)
    against = tuple((each,) if wrong else () for each in now)
    return AnswerTask(vlm, pixels, asked.questions, right, against)


def answers_only(answers: AnswerTask, *, guard: int = 4) -> EditTask:
    """A task without any label."""
    return EditTask.of_answers(answers, guard_pixels=random_pixels(guard, seed=1))
