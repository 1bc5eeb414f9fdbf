"""VSR, Visual Spatial Reasoning: is a caption about two things' places true of the photo?

Source: arXiv 2205.00363 and its published files: `splits/<random|zeroshot>/<train|dev|test>.jsonl`
with `image`, `label` (1 true, 0 false), `caption`, `relation`, and the COCO photos in one folder.
Question form: is the statement true or false; scored by accuracy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.datasets.missing import SetMissing, find
from benchmark.vqa.annotations import binary, read_lines, text
from benchmark.vqa.questions import ChoiceQuestion

NAME = "VSR"
QUESTION = 'Based on the image, is this statement true or false? "{caption}"'
OPTIONS = ("true", "false")
_IMAGE_FOLDERS = ("images", "data/images", "trainval2017", "train2017", "val2017")


@dataclass(frozen=True)
class Statement:
    """One caption; `question` asks whether it is true."""

    question: ChoiceQuestion
    relation: str


def load_vsr(root: Path, *, cut: str, split: str) -> list[Statement]:
    """All statements of a split, in the file's order. Raises SetMissing, SetMalformed."""
    file = Path("splits") / cut / f"{split}.jsonl"
    places = [root / file, root / "data" / file, root / f"vsr_{cut}" / f"{split}.jsonl"]
    path = find(NAME, f"the {cut} {split} split", places)
    found = []
    for where, entry in read_lines(path):
        image = _image(root, text(entry, "image", path, where))
        caption = text(entry, "caption", path, where)
        true = binary(entry, "label", path, where)
        asked = QUESTION.format(caption=caption)
        # A photo has several captions, and a caption several photos.
        key = f"{image.name}:{caption}"
        question = ChoiceQuestion(key, image, asked, OPTIONS, 0 if true else 1)
        found.append(Statement(question, text(entry, "relation", path, where)))
    return found


def by_relation(statements: Sequence[Statement], chosen: Sequence[int]) -> dict[str, float]:
    """Percent of right answers of each relation; `chosen` are the positions of chosen options."""
    asked = Counter(each.relation for each in statements)
    right = Counter(
        each.relation
        for each, option in zip(statements, chosen, strict=True)
        if option == each.question.answer
    )
    return {relation: 100 * right[relation] / count for relation, count in sorted(asked.items())}


def _image(root: Path, name: str) -> Path:
    places = [root / folder / name for folder in _IMAGE_FOLDERS]
    for path in places:
        if path.is_file():
            return path
    raise SetMissing(NAME, f"image {name}", places)
