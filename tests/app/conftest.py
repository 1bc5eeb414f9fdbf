"""A tiny encoder in a folder, and services that run on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from encoder.clip import load_encoder
from tests.support.service import RunningService, running_service
from tests.support.tiny_encoder import tiny_folder
from tests.support.tiny_vlm import tiny_vlm_folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny-encoder"))


@pytest.fixture
def service(tmp_path: Path, tiny_encoder: Path) -> Iterator[RunningService]:
    """A service of its own."""
    with running_service(tmp_path / "data", tiny_encoder) as running:
        yield running


@pytest.fixture(scope="module")
def shared_service(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path
) -> Iterator[RunningService]:
    """One service for the tests of a module that leave it as they found it."""
    with running_service(tmp_path_factory.mktemp("data"), tiny_encoder) as running:
        yield running


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A vision-language model over the tiny encoder."""
    return tiny_vlm_folder(tmp_path_factory.mktemp("tiny-vlm"), load_encoder(str(tiny_encoder)))


@pytest.fixture(scope="module")
def asked_service(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, vlm_folder: Path
) -> Iterator[RunningService]:
    """One that answers questions, with version 0 live and version 1 beside it."""
    folder = tmp_path_factory.mktemp("data")
    with running_service(folder, tiny_encoder, vlm=str(vlm_folder)) as running:
        running.add_adapter(seed=1)
        running.wait_for_vlm()
        yield running
