"""What an edit must leave alone, with a tiny encoder and real stored images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder
from registry.artifacts import ArtifactStore
from tests.support.running_worker import COLOURS, EVERYDAY, picture
from tests.support.tiny_encoder import tiny_encoder
from worker.control_sets import (
    BUNDLED,
    IMAGES_AT_MOST,
    Budgets,
    ControlLoader,
    ControlPlan,
    plan_images,
)
from worker.errors import ControlLabelUnknown, ImageUnreadable
from worker.stored_images import ImageReader


@pytest.fixture(scope="module")
def base() -> Encoder:
    return tiny_encoder()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def loader(base: Encoder, store: ArtifactStore) -> ControlLoader:
    reader = ImageReader(store, base.preprocessing)
    return ControlLoader(base, reader, TextFeatureCache(1000), EVERYDAY, Budgets(0.5, 8.0))


def plan(
    store: ArtifactStore, *, count: int = 6, labelled: int = 6, budget: float | None = None
) -> ControlPlan:
    labels = [[*COLOURS][n % 3] for n in range(count)]
    images = {
        store.put(picture(label, n)): (label if n < labelled else None)
        for n, label in enumerate(labels)
    }
    return ControlPlan("colours", tuple(COLOURS), (), plan_images(images), budget)


def test_a_labelled_set_has_targets_and_both_budgets(
    loader: ControlLoader, store: ArtifactStore, base: Encoder
) -> None:
    controls = loader.load([plan(store, labelled=4)], guard_images=2, seed=0)
    (control,) = controls.sets
    assert (control.name, controls.bundled) == ("colours", False)
    assert (control.budget, control.flip_budget) == (0.5, 8.0)
    assert control.targets is not None
    assert sorted(control.targets.tolist()) == [-1, -1, 0, 0, 1, 2]
    assert control.base_features is not None
    assert torch.equal(control.base_features, base.embed_images(control.pixels))
    assert control.text_features.shape == (3, 16)


def test_a_set_without_labels_has_the_flip_budget(
    loader: ControlLoader, store: ArtifactStore
) -> None:
    (control,) = loader.load([plan(store, labelled=0)], guard_images=2, seed=0).sets
    assert (control.targets, control.flip_budget) == (None, 8.0)


def test_a_set_may_have_a_budget_of_its_own(loader: ControlLoader, store: ArtifactStore) -> None:
    (control,) = loader.load([plan(store, budget=0.0)], guard_images=2, seed=0).sets
    assert control.budget == 0.0
    (control,) = loader.load([plan(store, labelled=0, budget=1.0)], guard_images=2, seed=0).sets
    assert control.flip_budget == 1.0


def test_one_labelled_image_leaves_the_others_under_the_flip_budget(
    loader: ControlLoader, store: ArtifactStore
) -> None:
    (control,) = loader.load([plan(store, labelled=1, budget=2.0)], guard_images=2, seed=0).sets
    assert (control.budget, control.flip_budget) == (2.0, 8.0)


def test_guard_images_are_marked_and_come_with_the_base_features(
    loader: ControlLoader, store: ArtifactStore
) -> None:
    controls = loader.load([plan(store)], guard_images=2, seed=0)
    (control,) = controls.sets
    assert control.seen is not None
    assert control.seen.sum() == len(controls.guard_pixels) == 2
    assert torch.equal(control.pixels[control.seen], controls.guard_pixels)
    assert control.base_features is not None
    assert torch.equal(control.base_features[control.seen], controls.guard_features)
    again = loader.load([plan(store)], guard_images=2, seed=0)
    assert torch.equal(again.guard_pixels, controls.guard_pixels)


def test_without_control_sets_the_bundled_photographs_are_used(loader: ControlLoader) -> None:
    controls = loader.load([], guard_images=256, seed=0)
    (control,) = controls.sets
    assert controls.bundled
    assert (control.name, len(control.pixels), control.targets) == (BUNDLED, 126, None)
    assert control.text_features.shape == (len(EVERYDAY.labels), 16)
    assert len(controls.guard_pixels) == 63  # the gate keeps the other half unseen


def test_a_set_without_images_counts_as_none(loader: ControlLoader, store: ArtifactStore) -> None:
    assert loader.load([plan(store, count=0)], guard_images=0, seed=0).bundled


def test_images_are_read_once_while_the_set_stays_the_same(
    loader: ControlLoader, store: ArtifactStore
) -> None:
    known = plan(store)
    first = loader.load([known], guard_images=0, seed=0)
    store.delete(known.images[0][0])
    second = loader.load([known], guard_images=0, seed=0)
    assert torch.equal(second.sets[0].pixels, first.sets[0].pixels)
    loader.load([], guard_images=0, seed=0)
    with pytest.raises(ImageUnreadable, match="of control set 'colours'"):
        loader.load([known], guard_images=0, seed=0)


def test_a_label_that_left_its_set_is_refused_by_name(store: ArtifactStore) -> None:
    known = plan(store)
    changed = ControlPlan("colours", ("apple", "leaf"), (), known.images, None)
    with pytest.raises(ControlLabelUnknown, match="'colours' has images labelled 'sea'"):
        changed.targets()


def test_a_huge_set_is_bounded_the_same_way_every_time() -> None:
    images = {f"{n:064x}": None for n in range(IMAGES_AT_MOST + 5)}
    backwards = dict(reversed(images.items()))
    assert len(plan_images(images)) == IMAGES_AT_MOST
    assert plan_images(images) == plan_images(backwards)
