"""Text features of labels, as each encoder that is judged has them.

While no edit has moved the text tower they are the ones that tasks and control sets bring along;
otherwise every strength that is tried has its own, read from the prompts.

Legend: M images of a control set, C labels, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from editing.errors import InvalidTask
from encoder.clip import Encoder
from encoder.prompts import Prompt, prompt_features
from encoder.text_features import TextFeatureCache

CHUNK = 64
"""Labels read between two calls of `tell`."""
KEPT = 20_000
"""Labels whose features are kept while one edit is judged: sets often share them."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A control set as one encoder has it: images fp32 [M, E], texts fp32 [C, E], unit rows."""

    images: Tensor
    texts: Tensor

    def towards(self, other: Embedded, part: float) -> Embedded:
        """Blended with another encoder's."""
        images = self.images.lerp(other.images, part)
        if self.texts is other.texts:
            return Embedded(images, self.texts)
        # Labels of unequal length would not compete by their angle alone.
        texts = functional.normalize(self.texts.lerp(other.texts, part), dim=-1)
        return Embedded(images, texts)


class JudgedTexts:
    """Keeps what it has read, so that labels in several sets are read once an encoder."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._cache = TextFeatureCache(KEPT)

    def of(
        self, encoder: Encoder, known: Tensor, of: Encoder, prompts: Sequence[Prompt] | None
    ) -> Tensor:
        """fp32 [C, E]; `known` are the features that the encoder `of` has.

        Raises InvalidTask where the text tower is another one and nobody said what it should read,
        ClassifierError of encoder.errors, and what `tell` raises.
        """
        if encoder.text_digest == of.text_digest:
            return known
        if prompts is None:
            raise InvalidTask("the text tower moved, and the labels do not say what it should read")
        parts = []
        for first in range(0, len(prompts), CHUNK):
            self._tell()
            parts.append(prompt_features(encoder, prompts[first : first + CHUNK], self._cache))
        return torch.cat(parts)
