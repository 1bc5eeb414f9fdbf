"""Control questions: answers about images that an edit must leave alone.

As for images that are classified, changes are against the base encoder: questions whose answer is
known may lose right answers, the others may change their answers, each within a budget.

Legend: M questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from editing.control import ControlChange, compare
from editing.errors import InvalidTask
from editing.questions import Questions, numbered
from encoder.clip import Encoder


@dataclass(frozen=True, eq=False)
class QuestionControl:
    """Questions of one control set.

    expected      M, the right answers; None where nobody said
    base_answers  M, as the model answers over the base encoder
    budget        points of right answers that the answered questions may lose, 0 to 100
    flip_budget   percent of answers to the others that may differ from the base's
    seen          bool [M], True where the image trained this edit's guard term
    """

    name: str
    questions: Questions
    expected: tuple[str | None, ...]
    base_answers: tuple[str, ...]
    budget: float
    flip_budget: float | None
    seen: Tensor | None = None

    kind = "vqa"

    def __post_init__(self) -> None:
        """Raises InvalidTask."""
        count = len(self.questions)
        lengths = {len(self.expected), len(self.base_answers), count}
        if count == 0 or len(lengths) > 1 or (self.seen is not None and len(self.seen) != count):
            raise InvalidTask(f"control set {self.name!r} has {count} questions, or answers")

    @property
    def rows(self) -> Tensor:
        """long [M]: a number of the right answer, -1 where it is unknown."""
        return numbered(self.expected)

    @property
    def labelled(self) -> Tensor:
        """bool [M]: the answer is known."""
        return self.rows >= 0

    def change(
        self, candidate: Encoder, tell: Callable[[], None], *, significance: float
    ) -> ControlChange:
        """What a candidate does to the answers. Raises what `Questions.answers` raises."""
        after = numbered(self.questions.answers(candidate, tell))
        return compare(self, numbered(self.base_answers), after, significance=significance)
