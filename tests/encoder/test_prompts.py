from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encoder.classifier import TextFeatureCache, build_classifier
from encoder.deltas import Dense
from encoder.errors import TemplateInvalid
from encoder.prompts import Prompt, prompt_features
from tests.support.tiny_encoder import EMBEDDING, tiny_encoder

PROMPTS: list[Prompt] = [
    ("cat", ("a {}", "the {}")),
    ("cat", ("{}",)),
    ("dog", ("a {}", "the {}")),
]


def test_each_label_is_read_under_its_own_templates() -> None:
    encoder = tiny_encoder()
    rows = prompt_features(encoder, PROMPTS, TextFeatureCache(10))
    for row, (label, templates) in zip(rows, PROMPTS, strict=True):
        expected = build_classifier(encoder, [label], templates).features[0]
        torch.testing.assert_close(row, expected)


def test_a_template_without_a_slot_is_refused() -> None:
    with pytest.raises(TemplateInvalid):
        prompt_features(tiny_encoder(), [("cat", ("a cat",))], TextFeatureCache(10))


def test_a_moved_text_tower_never_gets_the_features_of_another(tmp_path: Path) -> None:
    base = tiny_encoder()
    caches = TextFeatureCache(100, tmp_path), TextFeatureCache(100, tmp_path)
    generator = torch.Generator().manual_seed(0)
    # Candidates of several jobs are called alike.
    encoders = [base] + [
        base.merged_deltas(
            {"text_projection": Dense(torch.randn(EMBEDDING, EMBEDDING, generator=generator))},
            label="candidate at strength 1",
        )
        for _ in range(2)
    ]
    for cache in caches:
        for encoder in encoders:
            rows = prompt_features(encoder, PROMPTS, cache)
            alone = prompt_features(encoder, PROMPTS, TextFeatureCache(10))
            torch.testing.assert_close(rows, alone)
    told = [prompt_features(encoder, PROMPTS, caches[0]) for encoder in encoders]
    assert not torch.allclose(told[0], told[1], atol=1e-2)
    assert not torch.allclose(told[1], told[2], atol=1e-2)
