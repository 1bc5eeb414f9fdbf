"""Names, words and sentence forms for the text tower.

Names have a meaning: their targets come from the teacher. Words have none: they only have to get
features of their own, the same in every sentence, so that a label set nobody thought of
("zero" ... "nine") does not collapse into one point.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up photo of a {}.",
    "a good photo of a {}.",
    "a photo of one {}.",
)
"""averaged to classify; written into `labels.json`"""

SENTENCES = (
    *TEMPLATES,
    "{}",
    "a {}",
    "the {}",
    "a photo of {}",
    "a photo of a {}",
    "a photo of the number {}",
    "a photo of the digit {}",
    'a photo of the number: "{}".',
    "the number {}",
    "a handwritten {}",
    "a handwritten digit {}",
    "a picture of a {}",
    "an image of a {}.",
    "a picture of the {} in the street",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a cropped photo of the {}.",
    "a bright photo of the {}.",
    "a dark photo of a {}.",
    "a blurry photo of a {}.",
    "a black and white photo of the {}.",
    "a low resolution photo of a {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "a photo of my {}.",
    "this is a {}",
    "there is a {} in the photo",
    "itap of a {}.",
    "a drawing of a {}.",
    "a sketch of the {}.",
    'a photo of a "{}" traffic sign.',
    'a zoomed in photo of a "{}" traffic sign.',
    'a centered photo of a "{}" traffic sign.',
    'a close up photo of a "{}" traffic sign.',
    "a {} traffic sign",
    "a road sign that says {}",
    "a photo of the colour {}",
)
"""used in training only"""

_FAVOURED = (
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty "
    "fifty sixty seventy eighty ninety hundred 0 1 2 3 4 5 6 7 8 9 10 20 30 40 50 60 70 80 90 "
    "100 120 red green blue yellow orange purple black white brown grey pink left right up down "
    "speed limit stop no end yield turn straight road digit number letter circle square "
    "triangle person dog cat bird car truck ship plane frog horse deer shirt trouser pullover "
    "dress coat sandal bag boot"
)
FAVOURED_WORDS = tuple(_FAVOURED.split())
"""sampled more often than the vocabulary's other words"""


@dataclass(frozen=True)
class Names:
    """Names whose meaning the teacher knows, in three groups."""

    photo_classes: list[str]
    imagenet: list[str]
    signs: list[str]

    def all(self) -> list[str]:
        """All names, the photo classes first."""
        return [*self.photo_classes, *self.imagenet, *self.signs]


def read_names(lab: Path, photo_classes: list[str]) -> Names:
    """Read the lab's name lists; `photo_classes` are the names of the training photos."""
    groups = {
        key: list(json.loads((lab / f"classes-{key}.json").read_text())["names"].values())
        for key in ("imagenet", "gtsrb")
    }
    return Names(photo_classes, groups["imagenet"], groups["gtsrb"])


def vocabulary_words(tokenizer: open_clip.SimpleTokenizer) -> list[str]:
    """All whole words of three letters or more in the tokenizer's vocabulary."""
    ends = [token.removesuffix("</w>") for token in tokenizer.encoder if token.endswith("</w>")]
    return sorted(word for word in ends if len(word) > 2 and word.isascii() and word.isalpha())


def random_phrases(words: list[str], count: int, generator: torch.Generator) -> list[str]:
    """`count` phrases of one to three words; the second half are near misses of the first.

    A near miss has one word replaced, so that "20 km limit" and "30 km limit" must differ.
    """
    lengths = torch.multinomial(
        torch.tensor([0.55, 0.3, 0.15]), count // 2, replacement=True, generator=generator
    )
    phrases = [[_word(words, generator) for _ in range(int(length) + 1)] for length in lengths]
    misses = [list(phrase) for phrase in phrases]
    for miss in misses:
        miss[_below(len(miss), generator)] = _word(words, generator)
    return [" ".join(phrase) for phrase in [*phrases, *misses]]


def _word(words: list[str], generator: torch.Generator) -> str:
    if _below(6, generator) == 0:
        return FAVOURED_WORDS[_below(len(FAVOURED_WORDS), generator)]
    return words[_below(len(words), generator)]


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (1,), generator=generator))
