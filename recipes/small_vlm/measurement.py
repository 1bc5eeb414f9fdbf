"""The model card's numbers, measured on a finished folder the way it is served.

Photos are those of `val/`, which nothing was trained or chosen on. "Blank" is the same model asked
the same questions about one grey picture: what can be known without looking.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from encoder.clip import Encoder
from encoder.vlm.answering import Question, answer_questions
from encoder.vlm.model import VisionLanguageModel
from recipes.small_vlm.pictures import Picture, photos
from recipes.small_vlm.questions import PLAIN, Questions

GREY = (124, 116, 104)  # ImageNet's mean colour
_LONGEST_ANSWER = 16


@dataclass(frozen=True)
class Score:
    """Shares in percent."""

    options: float
    """five names scored after the plain question, by summed log-likelihood"""
    options_mean: float
    """the same, by log-likelihood a token"""
    yes_no: float
    """one question to be answered yes and one no about each picture"""
    greedy: float
    """the plain question answered freely, with exactly the label"""

    def __str__(self) -> str:
        return (
            f"five options {self.options:.1f} % (by the token {self.options_mean:.1f} %), "
            f"yes/no {self.yes_no:.1f} %, free answer {self.greedy:.1f} %"
        )


@dataclass(frozen=True)
class Measurement:
    """One model on unseen photos, and without seeing them."""

    photos: int
    seen: Score
    blank: Score

    def __str__(self) -> str:
        return f"{self.photos} unseen photos: {self.seen}\nthe same, blanked out: {self.blank}"


def measure_vlm(
    vlm: VisionLanguageModel,
    encoder: Encoder,
    questions: Questions,
    archive: Path,
    *,
    per_class: int = 10,
    among: Sequence[str],
    seed: int = 0,
) -> Measurement:
    """Ask about the first `per_class` of each class's `val` photos; distractors from `among`."""
    pictures = list(photos(archive, split="val", per_class=per_class))
    pixels = torch.stack([vlm.pixels(encoder, each.image) for each in pictures])
    grey = vlm.pixels(encoder, Image.new("RGB", (64, 64), GREY))[None]
    blank = vlm.image_tokens(encoder, grey).expand(len(pictures), -1, -1)
    seen = vlm.image_tokens(encoder, pixels)
    ask = (vlm, questions, pictures)
    return Measurement(
        photos=len(pictures),
        seen=_score(*ask, tokens=seen, among=among, seed=seed),
        blank=_score(*ask, tokens=blank, among=among, seed=seed),
    )


def _score(
    vlm: VisionLanguageModel,
    questions: Questions,
    pictures: Sequence[Picture],
    *,
    tokens: Tensor,
    among: Sequence[str],
    seed: int,
) -> Score:
    """Ask about pictures whose tokens are [N, T, D]."""
    draw = random.Random(seed)
    options = options_mean = yes_no = greedy = 0
    for picture, seen in zip(pictures, tokens, strict=True):
        label = picture.label
        wrong = draw.choice([name for name in among if name != label])
        yes, no = (f"Is this {questions.phrase(name)}?" for name in (label, wrong))
        listed = tuple(questions.options(label, draw, among))
        chosen, to_yes, to_no, free = answer_questions(
            vlm,
            [
                Question(PLAIN, seen, listed),
                Question(yes, seen, ("yes", "no")),
                Question(no, seen, ("yes", "no")),
                Question(PLAIN, seen),
            ],
            max_tokens=_LONGEST_ANSWER,
        )
        options += chosen.answer == label
        options_mean += chosen.by_mean == label
        yes_no += (to_yes.answer == "yes") + (to_no.answer == "no")
        greedy += free.answer == label
    share = 100 / len(pictures)
    return Score(options * share, options_mean * share, yes_no * share / 2, greedy * share)
