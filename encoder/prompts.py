"""Labels under prompt templates: what text features of labels are made from.

Legend: V prompts, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from encoder.classifier import TextFeatureCache, build_classifier
from encoder.clip import Encoder

Templates: TypeAlias = tuple[str, ...]
Prompt: TypeAlias = tuple[str, Templates]
"""A label, and the templates over which its features are averaged."""


def prompt_features(encoder: Encoder, prompts: Sequence[Prompt], cache: TextFeatureCache) -> Tensor:
    """Unit rows fp32 [V, E] as `encoder` has them, on the CPU as all that is compared.

    Raises encoder.errors.ClassifierError.
    """
    by_templates: dict[Templates, list[int]] = {}
    for row, (_, templates) in enumerate(prompts):
        by_templates.setdefault(templates, []).append(row)
    found: dict[int, Tensor] = {}
    for templates, rows in by_templates.items():
        labels = [prompts[row][0] for row in rows]
        classifier = build_classifier(encoder, labels, templates, cache)
        found.update(zip(rows, classifier.features, strict=True))
    return torch.stack([found[row] for row in range(len(prompts))]).cpu()
