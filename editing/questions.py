"""Questions about images, put to a vision-language model over any version of the encoder.

The model itself never changes: what an edit does to its answers, it does through the tower.

Legend: U different images, u of them at once, M questions, S image side of the model, T' image
tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from editing.errors import InvalidTask
from encoder.clip import Encoder
from encoder.vlm.answering import Question, answer_questions
from encoder.vlm.model import VisionLanguageModel

IMAGES_AT_ONCE = 16
"""Between two calls of `tell`, each with all of its questions."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions with the images that they are about, and the model that answers them.

    pixels   uint8 [U, 3, S, S], as `VisionLanguageModel.pixels` makes them
    rows     long [M], the image of each question
    texts    M questions
    options  M, what each answer is chosen from; empty: any text
    """

    vlm: VisionLanguageModel
    pixels: Tensor
    rows: Tensor
    texts: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Raises InvalidTask."""
        count = len(self.texts)
        if self.rows.shape != (count,) or len(self.options) != count:
            reason = f"{count} questions, {self.rows.numel()} images, {len(self.options)} options"
            raise InvalidTask(reason)

    def __len__(self) -> int:
        return len(self.texts)

    def answers(self, encoder: Encoder, tell: Callable[[], None]) -> tuple[str, ...]:
        """M answers: the likeliest option, or the greedy text. `tell` is called between some of
        them.

        Raises PromptTooLong, AnswerTooLong, OptionBlank, OutOfMemory, and what `tell` raises.
        """
        found: dict[int, str] = {}
        images = self.rows.tolist()
        for first in range(0, len(self.pixels), IMAGES_AT_ONCE):
            tell()
            chunk = self.pixels[first : first + IMAGES_AT_ONCE]
            tokens = self.vlm.image_tokens(encoder, chunk)  # [u, T', D]
            asked = [row for row, image in enumerate(images) if 0 <= image - first < len(chunk)]
            put = [
                Question(self.texts[row], tokens[images[row] - first], self.options[row])
                for row in asked
            ]
            replies = answer_questions(self.vlm, put)
            # By the whole option: as training's margins are, and /vqa where nobody says otherwise.
            found.update((row, each.answer) for row, each in zip(asked, replies, strict=True))
        return tuple(found[row] for row in range(len(self)))


def plain(answer: str) -> str:
    """What is compared: no case, no runs of spaces, no final full stop."""
    return " ".join(answer.casefold().split()).rstrip(".")


def numbered(answers: Sequence[str | None]) -> Tensor:
    """long [M]: equal for answers that are the same; -1 for None."""
    return torch.tensor([-1 if each is None else _number(plain(each)) for each in answers]).long()


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest())


@dataclass(frozen=True, eq=False)
class AskedCorrections:
    """Corrections that are judged by the model's own answers.

    rows     long [Q], which of the task's corrections the questions belong to
    right    Q, the right answers; where the wrong one is known, it is the only other option
    """

    rows: Tensor
    questions: Questions
    right: tuple[str, ...]

    def is_right(self, answers: Sequence[str]) -> Tensor:
        """bool [Q]."""
        return numbered(answers) == numbered(self.right)
