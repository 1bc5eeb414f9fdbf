"""Two replicas of the API that the tests of this folder leave as they found them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.replicas import Replicas
from tests.support.tiny_encoder import tiny_folder

FIRST, SECOND = "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="package")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Jobs that corrections open gather for an hour."""
    folder = tmp_path_factory.mktemp("replicas")
    running = Replicas(
        folder / "data", tiny_folder(folder / "encoder"), {"EMEND_EDIT_WAIT": "3600"}
    )
    try:
        for address in (FIRST, SECOND):
            running.start(address)
        for address in (FIRST, SECOND):
            running.wait_until_ready(address)
        yield running
    finally:
        running.close()
