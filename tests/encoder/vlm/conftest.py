"""LLaVA folders over `tiny_encoder()`: without a tower, and whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_encoder import tiny_encoder
from tests.support.tiny_vlm import full_llava_folder, tiny_vlm_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A test may write to it."""
    return tiny_vlm_folder(tmp_path / "tiny", tiny_encoder())


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test may write to it."""
    return full_llava_folder(tmp_path_factory.mktemp("full") / "full", tiny_encoder())
