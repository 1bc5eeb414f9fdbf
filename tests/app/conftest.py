"""A tiny encoder in a folder, and services that run on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import RunningService, running_service
from tests.support.tiny_encoder import tiny_folder


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
