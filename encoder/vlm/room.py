"""Whether questions, and what may be answered, fit into a model's context.

Legend: S image side, T' image tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from encoder.clip import Encoder
from encoder.vlm.decoder_pass import check_length
from encoder.vlm.model import VisionLanguageModel


class Room:
    """A model's context with one image in it; every image takes as many tokens."""

    def __init__(self, vlm: VisionLanguageModel, encoder: Encoder) -> None:
        """Raises OutOfMemory."""
        side = vlm.reading.image_size
        blank = torch.zeros(1, 3, side, side, dtype=torch.uint8)
        self._vlm = vlm
        [self._image] = vlm.image_tokens(encoder, blank)  # [T', D]

    def check(self, question: str, answers: Sequence[str]) -> None:
        """`answers`: to be scored, or taught. Raises PromptTooLong, AnswerTooLong."""
        prompt = len(self._vlm.question(question, self._image).embeddings)
        for answer in answers:
            check_length(self._vlm, prompt + len(self._vlm.answer_ids(answer.strip())))
