"""Targets of a tiny teacher, written and read back."""

from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F

from recipes.bundled_encoder.photos import Photos
from recipes.bundled_encoder.teacher import compute_targets, load_targets, prepare
from tests.recipes.tiny_student import TINY_CONFIG


def tiny_teacher() -> open_clip.CLIP:
    """Two layers over 224 px; its width equals its features, as the lab's base model's does."""
    vision = {"image_size": 224, "patch_size": 16, "width": 192, "layers": 2, "pool_type": "tok"}
    torch.manual_seed(0)
    teacher = open_clip.CLIP(**TINY_CONFIG | {"vision_cfg": TINY_CONFIG["vision_cfg"] | vision})
    teacher.visual.image_mean, teacher.visual.image_std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    return teacher.eval()


def test_targets_follow_the_teacher(photos: Photos, tmp_path: Path) -> None:
    teacher, pixels = tiny_teacher(), photos.pixels[:3]
    compute_targets(teacher, pixels, tmp_path)
    targets = load_targets(tmp_path)
    assert targets.boxes.shape == (2, 3, 4)
    assert targets.features.shape == (2, 3, 192)
    assert targets.maps[0].shape == targets.maps[1].shape == (2, 3, 192, 14, 14)
    assert targets.boxes[0].tolist() == [[0, 0, 1, 1]] * 3
    with torch.no_grad():
        expected = teacher.encode_image(prepare(teacher, pixels.float() / 255))
    seen = torch.from_numpy(targets.features[0]).float()
    assert F.cosine_similarity(seen, expected).min() > 0.99  # bfloat16


def test_targets_are_computed_once(photos: Photos, tmp_path: Path) -> None:
    teacher = tiny_teacher()
    compute_targets(teacher, photos.pixels[:2], tmp_path)
    written = (tmp_path / "teacher-final.npy").stat().st_mtime_ns
    compute_targets(teacher, photos.pixels[:2], tmp_path)
    assert (tmp_path / "teacher-final.npy").stat().st_mtime_ns == written
