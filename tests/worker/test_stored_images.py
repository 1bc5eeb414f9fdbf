from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encoder.preprocessing import Preprocessing
from registry.artifacts import ArtifactStore
from registry.errors import StorageUnavailable
from tests.support.running_worker import picture
from tests.support.storage import block
from worker.errors import ImageUnreadable
from worker.stored_images import ImageReader, Wanted

PREPROCESSING = Preprocessing(28, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def reader(store: ArtifactStore) -> ImageReader:
    return ImageReader(store, PREPROCESSING)


def test_reads_in_order(store: ArtifactStore) -> None:
    hashes = [store.put(picture(label, 0)) for label in ("apple", "leaf", "sea") * 4]
    pixels = reader(store).read([Wanted(each, "a test") for each in hashes])
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (12, 3, 28, 28))
    assert pixels.float().mean(dim=(2, 3)).argmax(dim=1).tolist() == [0, 1, 2] * 4


def test_reads_nothing(store: ArtifactStore) -> None:
    assert reader(store).read([]).shape == (0, 3, 28, 28)


def test_names_what_is_missing(store: ArtifactStore) -> None:
    with pytest.raises(ImageUnreadable, match=f"image {'a' * 64} of correction 7"):
        reader(store).read([Wanted("a" * 64, "correction 7")])


def test_names_what_is_damaged(store: ArtifactStore) -> None:
    for sha256 in (store.put(b"no image"), store.put(picture("sea", 0)[:200])):
        with pytest.raises(ImageUnreadable) as caught:
            reader(store).read([Wanted(sha256, "correction 7")])
        assert caught.value.image_sha256 == sha256


def test_a_store_in_trouble_is_no_fault_of_the_image(store: ArtifactStore) -> None:
    sha256 = store.put(picture("sea", 0))
    block(store, sha256)
    with pytest.raises(StorageUnavailable):
        reader(store).read([Wanted(sha256, "correction 7")])
