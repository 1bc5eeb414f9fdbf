"""Zero-shot classification: one text feature a label, averaged over prompt templates on the sphere.

Radford et al. 2021 (CLIP), section 3.1.4. Legend: B images, C labels, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from encoder.clip import Encoder
from encoder.errors import LabelsMissing, TemplateInvalid, TemplatesMissing
from encoder.text_features import TextFeatureCache, text_feature_key

__all__ = [
    "DEFAULT_TEMPLATES",
    "TextFeatureCache",
    "ZeroShotClassifier",
    "build_classifier",
    "check_templates",
    "label_texts",
]

SLOT = "{}"
# The seven that CLIP's authors found to do as well as their eighty (their prompt engineering
# notebook for ImageNet).
DEFAULT_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@dataclass(frozen=True, eq=False)
class ZeroShotClassifier:
    """Labels as unit vectors, for image features of any encoder with the same text side."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    features: Tensor  # fp32 [C, E], unit rows, on the encoder's device
    logit_scale: float
    logit_bias: float

    def logits(self, image_features: Tensor) -> Tensor:
        """Unit rows [B, E] to logits [B, C]: logit_scale * cosine + logit_bias."""
        return self.logit_scale * image_features @ self.features.T + self.logit_bias

    def rank(self, image_features: Tensor, top_k: int = 5) -> list[list[tuple[str, float]]]:
        """The best `top_k` labels of each image, best first, scores a softmax over all labels."""
        scores = self.logits(image_features).softmax(dim=-1)  # [B, C]
        best, rows = scores.topk(min(top_k, len(self.labels)), dim=-1)
        return [
            [(self.labels[row], score) for row, score in zip(row_list, score_list, strict=True)]
            for row_list, score_list in zip(rows.tolist(), best.tolist(), strict=True)
        ]


def build_classifier(
    encoder: Encoder,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    cache: TextFeatureCache | None = None,
) -> ZeroShotClassifier:
    """A classifier over `labels` (equal labels share a feature); features come from `cache`.

    Raises LabelsMissing, TemplatesMissing or TemplateInvalid.
    """
    if not labels:
        raise LabelsMissing
    chosen = check_templates(DEFAULT_TEMPLATES if templates is None else templates)
    keys = [text_feature_key(encoder.text_digest, label, chosen) for label in labels]
    wanted = dict(zip(keys, labels, strict=True))

    def compute(missing: Sequence[str]) -> Tensor:
        return _label_features(encoder, [wanted[key] for key in missing], chosen)

    found = (cache or TextFeatureCache(len(keys))).features(keys, compute)  # [C, E]
    return ZeroShotClassifier(
        labels=tuple(labels),
        templates=chosen,
        features=found.to(encoder.device),
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
    )


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates, each with exactly one `{}`. Raises TemplatesMissing or TemplateInvalid."""
    if not templates:
        raise TemplatesMissing
    for template in templates:
        if template.count(SLOT) != 1:
            raise TemplateInvalid(template)
    return tuple(templates)


def label_texts(label: str, templates: Sequence[str]) -> list[str]:
    """What the text tower reads of a label, one text a template."""
    return [template.replace(SLOT, label) for template in templates]


def _label_features(encoder: Encoder, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Unit mean over templates of unit features, fp32 [len(labels), E]."""
    prompts = [text for label in labels for text in label_texts(label, templates)]
    features = encoder.embed_texts(prompts)
    grouped = features.reshape(len(labels), len(templates), features.shape[-1])
    return functional.normalize(grouped.mean(dim=1), dim=-1)
