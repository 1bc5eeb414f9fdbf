"""What is written loads with stock open_clip and says the same."""

import json
import math
import sys
from pathlib import Path

import open_clip
import pytest
import torch

from recipes.bundled_encoder import export
from recipes.bundled_encoder.__main__ import main
from recipes.bundled_encoder.evaluation import best_logit_scale, embed_photos, score
from recipes.bundled_encoder.photos import Photos
from recipes.bundled_encoder.student import normalise
from tests.recipes.tiny_student import TINY_CONFIG, unit_rows


@pytest.fixture
def folder(student: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(export, "MODEL_CONFIG", TINY_CONFIG)
    export.export_encoder(student, math.log(25), ["lion", "tea pot"], tmp_path / "out")
    return tmp_path / "out"


def test_an_exported_encoder_loads_and_matches(
    student: open_clip.CLIP, photos: Photos, folder: Path
) -> None:
    loaded, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    prompts = open_clip.get_tokenizer(f"local-dir:{folder}")(["a photo of a lion."])
    images = normalise(photos.pixels[:2].float() / 255)
    loaded.eval()
    with torch.no_grad():
        for ours, theirs in (
            (student.encode_image(images), loaded.encode_image(images)),
            (student.encode_text(prompts), loaded.encode_text(prompts)),
        ):
            assert torch.cosine_similarity(ours, theirs).min() > 0.9999  # fp16
    assert loaded.logit_scale.item() == pytest.approx(math.log(25), abs=0.01)
    assert preprocess.transforms[0].size == 64


def test_labels_come_with_their_templates(folder: Path) -> None:
    labels = json.loads((folder / "labels.json").read_text())
    assert labels["labels"] == ["lion", "tea pot"]
    assert all("{}" in template for template in labels["templates"])


def test_the_best_temperature_is_found() -> None:
    rows, labels = unit_rows(5, 0), torch.arange(5).repeat(40)
    generator = torch.Generator().manual_seed(1)
    noise = 0.4 * torch.randn(200, 192, generator=generator)
    features = torch.nn.functional.normalize(rows[labels] + noise, dim=-1)
    found = best_logit_scale(features, rows, labels)
    cosines = features @ rows.T
    losses = [
        float(torch.nn.functional.cross_entropy(cosines * math.exp(value), labels))
        for value in (found - 0.2, found, found + 0.2)
    ]
    assert losses[1] <= min(losses)


def test_scores_are_percentages() -> None:
    rows = unit_rows(10, 0)
    right = score(rows, rows, torch.arange(10))
    assert (right.top1, right.top5) == (100.0, 100.0)
    wrong = score(rows, rows, (torch.arange(10) + 1) % 10)
    assert wrong.top1 == 0.0


def test_photo_features_have_length_one(student: open_clip.CLIP, photos: Photos) -> None:
    features = embed_photos(student, photos.pixels)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(len(photos.pixels)))


@pytest.mark.parametrize("kept", [(), ("text-tower.safetensors",), ("image-run.safetensors",)])
def test_without_a_checkpoint_nothing_is_exported(
    kept: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    for name in kept:
        cache.mkdir()
        (cache / name).write_bytes(b"")
    arguments = {"--stage": "export", "--lab": tmp_path, "--cache": cache, "--out": out,
                 "--threads": torch.get_num_threads()}  # fmt: skip
    words = [str(word) for pair in arguments.items() for word in pair]
    monkeypatch.setattr(sys, "argv", ["recipe", *words])
    with pytest.raises(SystemExit, match=r"nothing to export: .* is missing"):
        main()
    assert not out.exists()
    assert cache.exists() == bool(kept)
