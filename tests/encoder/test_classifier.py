from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from encoder.classifier import (
    DEFAULT_TEMPLATES,
    TextFeatureCache,
    build_classifier,
    check_templates,
)
from encoder.clip import Encoder
from encoder.errors import LabelsMissing, TemplateInvalid, TemplatesMissing
from tests.support.tiny_encoder import random_pixels, tiny_encoder

LABELS = ["cat", "dog", "a very long label " * 200, "猫 🐈", "قط", "{} {0} {label}"]


def test_features_are_averaged_over_templates_on_the_sphere() -> None:
    encoder, templates = tiny_encoder(), ["a photo of a {}.", "{}"]
    classifier = build_classifier(encoder, ["cat", "dog"], templates)
    for label, feature in zip(["cat", "dog"], classifier.features, strict=True):
        each = encoder.embed_texts([f"a photo of a {label}.", label])
        torch.testing.assert_close(feature, functional.normalize(each.mean(dim=0), dim=-1))


@pytest.mark.parametrize("layout", ["open_clip", "siglip"])
def test_logits_are_those_of_open_clip(layout: str) -> None:
    encoder = tiny_encoder(layout)
    features = encoder.embed_images(random_pixels(3))
    classifier = build_classifier(encoder, ["cat", "dog"], ["{}"])
    texts = encoder.embed_texts(["cat", "dog"])
    expected = encoder.model.logit_scale.exp() * features @ texts.T
    if encoder.model.logit_bias is not None:
        expected = expected + encoder.model.logit_bias
    torch.testing.assert_close(classifier.logits(features), expected)


def test_ranking_is_a_softmax_over_all_labels_best_first() -> None:
    encoder = tiny_encoder()
    classifier = build_classifier(encoder, LABELS)
    features = encoder.embed_images(random_pixels(4))
    scores = classifier.logits(features).softmax(dim=-1)
    ranked = classifier.rank(features, top_k=100)
    assert len(ranked) == 4
    for row, best in zip(scores, ranked, strict=True):
        assert sum(score for _, score in best) == pytest.approx(1)
        assert [score for _, score in best] == sorted(row.tolist(), reverse=True)
        assert {label: pytest.approx(s) for label, s in best} == dict(
            zip(LABELS, row.tolist(), strict=True)
        )
    assert classifier.rank(features, top_k=2) == [best[:2] for best in ranked]


def test_equal_labels_share_a_feature_and_keep_their_places() -> None:
    classifier = build_classifier(tiny_encoder(), ["cat", "dog", "cat"])
    assert torch.equal(classifier.features[0], classifier.features[2])
    assert classifier.labels == ("cat", "dog", "cat")


def test_braces_in_a_label_are_letters() -> None:
    encoder = tiny_encoder()
    classifier = build_classifier(encoder, ["{x} {}"], ["a {}"])
    torch.testing.assert_close(classifier.features, encoder.embed_texts(["a {x} {}"]))


@pytest.mark.parametrize("template", ["", "a photo", "{} and {}", "{0}", "{label}"])
def test_a_template_needs_exactly_one_slot(template: str) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        build_classifier(tiny_encoder(), ["cat"], ["{}", template])
    assert caught.value.template == template


def test_labels_and_templates_are_needed() -> None:
    with pytest.raises(LabelsMissing):
        build_classifier(tiny_encoder(), [])
    with pytest.raises(TemplatesMissing):
        build_classifier(tiny_encoder(), ["cat"], [])


def test_the_default_templates_are_valid() -> None:
    assert check_templates(DEFAULT_TEMPLATES) == DEFAULT_TEMPLATES


def test_only_new_labels_are_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, cache = tiny_encoder(), TextFeatureCache(10)
    prompts: list[str] = []
    embed = Encoder.embed_texts

    def counting(asked: Encoder, texts: list[str]) -> torch.Tensor:
        prompts.extend(texts)
        return embed(asked, texts)

    monkeypatch.setattr(Encoder, "embed_texts", counting)
    first = build_classifier(encoder, ["cat", "dog"], ["{}"], cache)
    again = build_classifier(encoder, ["bird", "dog", "cat"], ["{}"], cache)
    assert prompts == ["cat", "dog", "bird"]
    assert torch.equal(again.features[[2, 1]], first.features)
    build_classifier(encoder, ["cat"], ["a {}"], cache)
    assert prompts[3:] == ["a cat"]


def test_another_text_side_has_other_features() -> None:
    cache = TextFeatureCache(10)
    first = build_classifier(tiny_encoder(), ["cat"], ["{}"], cache)
    second = build_classifier(tiny_encoder(seed=1), ["cat"], ["{}"], cache)
    assert not torch.allclose(first.features, second.features, atol=1e-3)
