"""A tiny student, a random teacher's targets and a few coloured photos."""

import numpy as np
import open_clip
import pytest
import torch

from recipes.bundled_encoder.image_tower import TrainingData
from recipes.bundled_encoder.losses import Rows
from recipes.bundled_encoder.photos import Photos, hold_out
from recipes.bundled_encoder.student import create_student
from recipes.bundled_encoder.teacher import TeacherTargets
from tests.recipes.tiny_student import (
    CLASSES,
    FEATURES,
    MAP,
    PER_CLASS,
    TINY_CONFIG,
    unit_rows,
)


@pytest.fixture
def student() -> open_clip.CLIP:
    return create_student(0, TINY_CONFIG)


@pytest.fixture
def photos() -> Photos:
    """Four classes, each of one colour with noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    colours = torch.randint(40, 200, (CLASSES, 3, 1, 1), generator=generator)
    noise = torch.randint(0, 50, (len(labels), 3, 64, 64), generator=generator)
    return Photos((colours[labels] + noise).to(torch.uint8), labels)


@pytest.fixture
def targets(photos: Photos) -> TeacherTargets:
    """Random maps; pooled features that are the same for all photos of a class."""
    random = np.random.default_rng(0)
    count = len(photos.labels)
    maps = [
        random.integers(-90, 90, (2, count, FEATURES, MAP, MAP), dtype=np.int8) for _ in range(2)
    ]
    boxes = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (2, count, 1))
    boxes[1] = [0.2, -0.1, 0.7, 0.8]
    features = unit_rows(CLASSES, 1)[photos.labels].half().numpy()
    return TeacherTargets(boxes, np.stack([features, features]), (maps[0], maps[1]))


@pytest.fixture
def data(photos: Photos, targets: TeacherTargets) -> TrainingData:
    teacher_rows = unit_rows(CLASSES, 1)
    rows = Rows(student=unit_rows(CLASSES, 2), teacher=teacher_rows, wide=unit_rows(9, 3))
    members, tuning = hold_out(photos.labels, 2)
    return TrainingData(photos, targets, rows, members, tuning)
