"""Hateful Memes: is a meme, an image with text on it, hateful?

Source: arXiv 2005.04790 and its published files: `<split>.jsonl` with `id`, `img`, `label` (1
hateful; absent in the blind test files of the first phase) and `text`, images in `img/`.
Question form: a yes-no question that quotes the text; scored by accuracy and by AUROC of the
probability of "yes" between the two options.
"""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.missing import SetMalformed, SetMissing, find
from benchmark.vqa.annotations import binary, read_lines, text
from benchmark.vqa.questions import ChoiceQuestion

NAME = "Hateful Memes"
QUESTION = 'The image has the text "{text}" on it. Is this meme hateful?'
OPTIONS = ("yes", "no")
HATEFUL = 0
"""Position of the option whose probability AUROC ranks by."""
SPLITS = ("train", "dev", "test", "dev_seen", "dev_unseen", "test_seen", "test_unseen")


def load_hateful_memes(root: Path, split: str) -> list[ChoiceQuestion]:
    """All memes of a split, in the file's order. Raises SetMissing, SetMalformed."""
    places = [root / f"{split}.jsonl", root / "data" / f"{split}.jsonl"]
    path = find(NAME, f"the {split} split", places)
    asked = []
    for where, entry in read_lines(path):
        if "label" not in entry:
            raise SetMalformed(path, where, "it has no label: a blind test file cannot be scored")
        image = path.parent / text(entry, "img", path, where)
        if not image.is_file():
            raise SetMissing(NAME, f"image {entry['img']}", [image])
        hateful = binary(entry, "label", path, where)
        question = QUESTION.format(text=text(entry, "text", path, where))
        answer = HATEFUL if hateful else 1 - HATEFUL
        asked.append(ChoiceQuestion(str(entry.get("id")), image, question, OPTIONS, answer))
    return asked
