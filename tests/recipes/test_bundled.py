"""The encoder in `encoder/bundled`, through stock open_clip alone."""

import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from recipes.bundled_encoder.__main__ import parse_options
from recipes.bundled_encoder.measurement import measure_encoder

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))
FOLDER = Path(__file__).parents[2] / "encoder" / "bundled"
LOCATION = f"local-dir:{FOLDER}"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIGNS = ["20 km/h speed limit", "30 km/h speed limit", "stop", "no entry", "give way", "keep left"]


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    loaded, _, _ = open_clip.create_model_and_transforms(LOCATION)
    return loaded.eval()


def text_rows(model: open_clip.CLIP, names: list[str], templates: list[str]) -> Tensor:
    tokenizer = open_clip.get_tokenizer(LOCATION)
    with torch.no_grad():
        rows = [
            F.normalize(model.encode_text(tokenizer([form.format(n) for n in names])), dim=-1)
            for form in templates
        ]
    return F.normalize(torch.stack(rows).mean(dim=0), dim=-1)


def largest_cosine(rows: Tensor) -> float:
    return float((rows @ rows.T).fill_diagonal_(-1).max())


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 25e6


def test_the_configuration_has_many_heads() -> None:
    config = json.loads((FOLDER / "open_clip_config.json").read_text())
    vision = config["model_cfg"]["vision_cfg"]
    assert vision["width"] // vision["head_width"] >= 8
    assert config["preprocess_cfg"]["size"] == vision["image_size"] == 64


def test_an_image_becomes_finite_features(model: open_clip.CLIP) -> None:
    _, _, preprocess = open_clip.create_model_and_transforms(LOCATION)
    image = preprocess(Image.new("RGB", (80, 60), (200, 120, 40)))[None]
    with torch.no_grad():
        features = model.encode_image(image)
    assert features.shape == (1, 192)
    assert bool(features.isfinite().all())


def test_the_hundred_names_have_distinct_features(model: open_clip.CLIP) -> None:
    labels = json.loads((FOLDER / "labels.json").read_text())
    assert len(labels["labels"]) == len(set(labels["labels"])) == 100
    assert largest_cosine(text_rows(model, labels["labels"], labels["templates"])) < 0.9


@pytest.mark.parametrize(
    ("names", "template"),
    [
        (DIGITS, "a photo of the number {}"),
        (DIGITS, "{}"),
        (SIGNS, 'a photo of a "{}" traffic sign.'),
        (["red", "green", "blue", "yellow", "black"], "a photo of a {} thing."),
    ],
)
def test_other_names_have_distinct_features(
    model: open_clip.CLIP, names: list[str], template: str
) -> None:
    assert largest_cosine(text_rows(model, names, [template])) < 0.85


def test_digits_are_no_photo_class(model: open_clip.CLIP) -> None:
    labels = json.loads((FOLDER / "labels.json").read_text())
    classes = text_rows(model, labels["labels"], labels["templates"])
    digits = text_rows(model, DIGITS, ["a photo of the number {}"])
    assert float((digits @ classes.T).max()) < 0.85


def test_the_temperature_is_sane(model: open_clip.CLIP) -> None:
    assert 5 < model.logit_scale.exp().item() < 100


@pytest.mark.skipif(
    not (LAB / "pretrain.zip").is_file(), reason=f"no pretrain.zip at {LAB} (set EMEND_LAB)"
)
def test_it_knows_photos_that_it_was_not_trained_on() -> None:
    measured = measure_encoder(FOLDER, LAB / "pretrain.zip", per_class=3)
    assert measured.photos == 300
    assert measured.accuracy.top1 >= 35  # 43.0 on all 5,000
    assert measured.accuracy.top5 >= 60  # 70.5
    assert measured.photos_per_second > 0
    assert "% top-1" in str(measured)


def test_the_recipe_needs_only_the_lab(tmp_path: Path) -> None:
    options = parse_options(["--lab", str(tmp_path)])
    assert (options.lab, options.stage, options.out) == (tmp_path, "all", FOLDER.resolve())
    repository = FOLDER.resolve().parents[1]
    assert repository not in options.cache.parents
