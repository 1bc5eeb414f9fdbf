"""What the client asks about an image, answered by a service with a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from client import EmendClient, EmendError
from encoder.clip import load_encoder
from tests.support.service import picture, running_service
from tests.support.tiny_encoder import tiny_folder
from tests.support.tiny_vlm import tiny_vlm_folder

QUESTION = "What is this?"


def test_the_client_asks_a_question_with_and_without_options(tmp_path: Path) -> None:
    encoder = tiny_folder(tmp_path / "encoder")
    vlm = tiny_vlm_folder(tmp_path / "vlm", load_encoder(str(encoder)))
    with (
        running_service(tmp_path / "data", encoder, vlm=str(vlm)) as service,
        EmendClient(service.url) as client,
    ):
        service.wait_for_vlm()
        version = service.add_adapter(seed=1)
        options = ["a cat", "a much longer answer"]
        answer = client.ask(picture(1), QUESTION, options=options, adapter=version, normalise=True)
        assert answer["answer"] in options
        assert [each["option"] for each in answer["options"]] == options
        assert (answer["adapter"], answer["normalised"]) == (version, True)
        told = client.ask(picture(1), QUESTION)
        assert (told["options"], told["adapter"]) == ([], 0)
        with pytest.raises(EmendError, match="no choice"):
            client.ask(picture(1), QUESTION, options=["one"])
