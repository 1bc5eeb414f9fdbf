"""Asking a VLM questions with options, through any version of the encoder.

Source: arXiv 2407.16526 takes the option of highest likelihood. An option's likelihood falls with
its length, so the choice by mean log-likelihood a token is kept beside it.

Legend: N questions, S image side.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.vqa.lab_sets import SIZE_LIMIT
from benchmark.vqa.questions import ChoiceQuestion
from benchmark.vqa.scoring import accuracy
from encoder.clip import Encoder
from encoder.images import decode_image
from encoder.vlm.answering import OptionScore, score_options
from encoder.vlm.model import VisionLanguageModel

_BATCH = 16  # questions a pass


@dataclass(frozen=True)
class Sheet:
    """Questions with their images decoded once: pixels uint8 [N, 3, S, S]."""

    questions: list[ChoiceQuestion]
    pixels: Tensor

    @classmethod
    def of(
        cls, questions: Sequence[ChoiceQuestion], vlm: VisionLanguageModel, base: Encoder
    ) -> Sheet:
        """Decode for this VLM; versions of one encoder share their preprocessing."""
        images = (
            decode_image(each.image_bytes(), max_bytes=SIZE_LIMIT, max_pixels=SIZE_LIMIT)
            for each in questions
        )
        return cls(list(questions), torch.stack([vlm.pixels(base, image) for image in images]))

    @property
    def digest(self) -> str:
        """Names questions and options in their order; runs are only compared when it is equal."""
        asked = [[each.key, each.question, *each.options] for each in self.questions]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Replies:
    """Of each question: the option of highest likelihood, the one of highest mean
    log-likelihood a token, and the first option's share of the options' likelihood."""

    chosen: list[int]
    chosen_by_mean: list[int]
    first: list[float]

    def accuracy(self, sheet: Sheet) -> float:
        """Percent of questions of which the likeliest option is the right one."""
        return accuracy(self.chosen, [each.answer for each in sheet.questions])

    def accuracy_by_mean(self, sheet: Sheet) -> float:
        """The same by mean log-likelihood."""
        return accuracy(self.chosen_by_mean, [each.answer for each in sheet.questions])


def ask(vlm: VisionLanguageModel, encoder: Encoder, sheet: Sheet) -> Replies:
    """Every question of the sheet, with image tokens from `encoder`. Raises VlmError."""
    replies = Replies([], [], [])
    for start in range(0, len(sheet.questions), _BATCH):
        questions = sheet.questions[start : start + _BATCH]
        tokens = vlm.image_tokens(encoder, sheet.pixels[start : start + _BATCH])
        prompts = [
            vlm.question(each.question, image)
            for each, image in zip(questions, tokens, strict=True)
        ]
        for scores in score_options(vlm, prompts, [each.options for each in questions]):
            replies.chosen.append(_best([each.log_likelihood for each in scores]))
            replies.chosen_by_mean.append(_best([each.mean for each in scores]))
            replies.first.append(_share(scores, 0))
    return replies


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _share(scores: Sequence[OptionScore], position: int) -> float:
    top = max(each.log_likelihood for each in scores)
    parts = [math.exp(each.log_likelihood - top) for each in scores]
    return parts[position] / sum(parts)
