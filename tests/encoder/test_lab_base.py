"""The lab's real encoder on real photos; skipped where the lab is not mounted."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from encoder.classifier import build_classifier
from encoder.clip import Encoder, load_encoder
from encoder.images import decode_image

LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))

pytestmark = pytest.mark.skipif(
    not (LAB / "base" / "open_clip_config.json").is_file(),
    reason=f"the lab is not at {LAB} (set EMEND_LAB)",
)


@pytest.fixture(scope="module")
def base() -> Encoder:
    return load_encoder(str(LAB / "base"))


def photos(base: Encoder, every: int) -> tuple[Tensor, list[str]]:
    """Each `every`-th of the 500 control photos, and the name of its class."""
    pixels, labels = [], []
    with zipfile.ZipFile(LAB / "control.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".jpeg"))
        for name in names[::every]:
            image = decode_image(archive.read(name), max_bytes=10**7, max_pixels=10**7)
            pixels.append(base.preprocessing.to_pixels(image))
            labels.append(Path(name).parent.name)
    return torch.stack(pixels), labels


def test_the_lab_base_is_as_large_as_its_card_says(base: Encoder) -> None:
    visual = sum(p.numel() for p in base.model.visual.parameters())
    assert visual == 5_561_088
    assert base.parameters_count == visual + 6_947_968 + 1
    assert {block.heads for block in base.tower.blocks} == {3}
    assert len(base.tower.blocks) == 12


def test_zero_shot_answers_are_as_good_as_its_card_says(base: Encoder) -> None:
    classes = json.loads((LAB / "classes-control.json").read_text(encoding="utf-8"))
    folders = sorted(classes["names"])
    names = [classes["names"][folder] for folder in folders]
    classifier = build_classifier(base, names, classes["templates"])
    pixels, labels = photos(base, every=10)
    answers = classifier.logits(base.embed_images(pixels)).argmax(dim=-1).tolist()
    right = sum(folders[a] == label for a, label in zip(answers, labels, strict=True))
    assert right / len(labels) >= 0.92  # 97.4 % on all 500


def test_half_precision_embeds_one_image_a_forward_where_torch_is_slow(base: Encoder) -> None:
    """Three heads, no fast path: see the comment on the chunk."""
    half = load_encoder(str(LAB / "base"), precision="bf16")
    calls: list[int] = []
    half.model.visual.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    pixels = torch.zeros(3, 3, 224, 224, dtype=torch.uint8)
    features = half.embed_images(pixels)
    assert calls == [1, 1, 1]
    assert (features * base.embed_images(pixels)).sum(dim=-1).min() > 0.99
