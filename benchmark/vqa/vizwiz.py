"""VizWiz VQA: questions that blind people asked about photos they took, ten answers each.

Source: arXiv 1802.08218 and its published files: `Annotations/<train|val|test>.json`, a list of
`image`, `question`, `answers` (ten of `answer`, `answer_confidence`), `answer_type`, `answerable`,
and a folder of photos for each split. The test split is published without answers.

Question forms: the family's short-answer prompt, answered greedily and scored officially
(`scoring.open_answer_score`); or, for the paper's "option of highest likelihood", five options: the
answer most people gave and four answers that most people gave to other questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.datasets.missing import SetMalformed, SetMissing, find
from benchmark.vqa.annotations import read_array, text
from benchmark.vqa.answer_text import normalise_answer
from benchmark.vqa.questions import OPTIONS, ChoiceQuestion, TooFewLabels, offer

NAME = "VizWiz VQA"
PEOPLE = 10


@dataclass(frozen=True)
class OpenQuestion:
    """A question whose answer is generated; `answers` are people's, empty in the test split."""

    key: str
    image: Path
    question: str
    answers: tuple[str, ...]
    answerable: bool

    def majority(self) -> str:
        """What most people answered, normalised; of equally many, the first given."""
        return Counter(normalise_answer(answer) for answer in self.answers).most_common(1)[0][0]


def load_vizwiz(root: Path, split: str) -> list[OpenQuestion]:
    """All questions of a split, in the file's order. Raises SetMissing, SetMalformed."""
    places = [root / "Annotations" / f"{split}.json", root / "annotations" / f"{split}.json"]
    path = find(NAME, f"the {split} annotations", places)
    return [_question(root, split, path, where, entry) for where, entry in read_array(path)]


def as_choices(questions: Sequence[OpenQuestion], *, seed: int) -> list[ChoiceQuestion]:
    """The answered questions with five options each. Raises TooFewLabels."""
    answered = [each for each in questions if each.answers]
    pool = sorted({each.majority() for each in answered})
    asked = []
    for each in answered:
        given = {normalise_answer(answer) for answer in each.answers}
        right = each.majority()
        # Nothing that anybody answered may stand among the distractors.
        others = [answer for answer in pool if answer == right or answer not in given]
        if len(others) < OPTIONS:
            raise TooFewLabels(len(others), OPTIONS)
        options = offer(right, others, key=each.key, seed=seed, options=OPTIONS)
        asked.append(
            ChoiceQuestion(each.key, each.image, each.question, options, options.index(right))
        )
    return asked


def _question(
    root: Path, split: str, path: Path, where: str, entry: dict[str, Any]
) -> OpenQuestion:
    name = text(entry, "image", path, where)
    places = [root / split / name, root / "Images" / split / name, root / "Images" / name]
    image = next((place for place in places if place.is_file()), None)
    if image is None:
        raise SetMissing(NAME, f"image {name}", places)
    question = text(entry, "question", path, where)
    if split == "test" and "answers" not in entry:
        return OpenQuestion(name, image, question, (), answerable=True)
    answers = entry.get("answers")
    if not isinstance(answers, list) or len(answers) != PEOPLE:
        raise SetMalformed(path, where, f"'answers' is no list of {PEOPLE} answers")
    if not all(isinstance(each, dict) for each in answers):
        raise SetMalformed(path, where, "an answer is not an object")
    given = tuple(text(each, "answer", path, where) for each in answers)
    return OpenQuestion(name, image, question, given, answerable=bool(entry.get("answerable", 1)))
