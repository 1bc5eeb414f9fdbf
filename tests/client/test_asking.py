"""Questions about images, against a service with the bundled model and one without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client import EmendClient, EmendError
from tests.support.service import picture, running_service
from tests.support.tiny_encoder import tiny_folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmendClient]:
    settings = {"vlm": "bundled", "vlm_load": "lazy"}
    data = tmp_path_factory.mktemp("data")
    bundled = Path("bundled")
    with running_service(data, bundled, **settings) as service, EmendClient(service.url) as asked:
        yield asked


def test_it_waits_while_the_model_is_being_loaded(client: EmendClient) -> None:
    """Nothing was loaded before the first question."""
    assert client.ask(picture(1), "Is this a photo?", options=["yes", "no"])["answer"] in (
        "yes",
        "no",
    )
    assert client.ask(picture(1), "What is this?", adapter=0)["adapter"] == 0


def test_a_service_without_a_model_refuses_at_once(tmp_path: Path) -> None:
    encoder = tiny_folder(tmp_path / "encoder")
    with (
        running_service(tmp_path / "data", encoder, vlm="none") as service,
        EmendClient(service.url) as client,
        pytest.raises(EmendError) as refused,
    ):
        client.ask(picture(1), "What is this?")
    assert refused.value.problem["type"] == "urn:emend:problem:vlm-absent"
