"""Questions that an edit should make a vision-language model answer rightly.

Legend: N questions, S image side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from editing.errors import InvalidTask
from encoder.vlm.model import VisionLanguageModel


@dataclass(frozen=True, eq=False)
class AnswerTask:
    """Questions about images, and what should be answered.

    vlm        reads the tower of the encoder that is edited
    pixels     uint8 [N, 3, S, S], S = `vlm.reading.image_size`
    questions  N
    right      N answers
    wrong      for each question, answers that the right one must lead; none is allowed
    new        bool [N], True for those that the job is about, False for earlier ones; None: all
    """

    vlm: VisionLanguageModel
    pixels: Tensor
    questions: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[tuple[str, ...], ...]
    new: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises InvalidTask."""
        count, side = len(self.questions), self.vlm.reading.image_size
        if not count:
            raise InvalidTask("it has no questions")
        if self.pixels.dtype != torch.uint8 or self.pixels.shape != (count, 3, side, side):
            found = f"{self.pixels.dtype} {tuple(self.pixels.shape)}"
            raise InvalidTask(f"images of {count} questions are uint8 of side {side}, not {found}")
        if len(self.right) != count or len(self.wrong) != count:
            raise InvalidTask(f"{len(self.right)} answers for {count} questions")
        if self.new is not None and self.new.shape != (count,):
            raise InvalidTask(f"{tuple(self.new.shape)} marks of new ones for {count} questions")
        for right, wrong in zip(self.right, self.wrong, strict=True):
            if not all(each.strip() for each in (right, *wrong)):
                raise InvalidTask("an answer is empty")
            if right.strip() in {each.strip() for each in wrong}:
                raise InvalidTask(f"{right!r} is the right answer to a question and a wrong one")

    def __len__(self) -> int:
        return len(self.questions)
