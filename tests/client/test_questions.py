"""What the client sends about questions, taken in by a service that has a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client import EmendClient
from encoder.clip import load_encoder
from tests.support.service import picture, running_service
from tests.support.tiny_encoder import tiny_folder
from tests.support.tiny_vlm import tiny_vlm_folder


@pytest.fixture
def client(tmp_path: Path) -> Iterator[EmendClient]:
    encoder = tiny_folder(tmp_path / "encoder")
    vlm = tiny_vlm_folder(tmp_path / "vlm", load_encoder(str(encoder)))
    with running_service(tmp_path / "data", encoder, vlm=str(vlm)) as service:
        service.wait_for_vlm()
        with EmendClient(service.url) as client:
            yield client


def test_answers_are_sent_one_an_image(client: EmendClient) -> None:
    [job] = client.correct(
        [picture(1), picture(2)], question="What is this?", answer=["a fox", "a dog"],
        wrong_answer="a cat",
    )  # fmt: skip
    ids = client.get(f"/edit-jobs/{job}")["corrections"]
    sent = [client.get(f"/corrections/{one}") for one in ids]
    assert [(one["answer"], one["wrong_answer"]) for one in sent] == [
        ("a fox", "a cat"),
        ("a dog", "a cat"),
    ]
    client.correct([picture(1)], ["animal"])
    assert client.get("/corrections")["corrections"][0]["question"] is None


def test_a_control_set_asks_what_the_client_says(client: EmendClient) -> None:
    images = [picture(1), picture(2)]
    questions, options = ["What is this?", "And this?"], ["a cup", "a hat"]
    client.ask_control_set("quiz", images, questions, answers=options, options=options, budget=1)
    client.ask_control_set("quiz", images[:1], ["Is it red?"])
    found = client.get("/control-sets/quiz")
    assert (found["questions"], found["answered"], found["budget"]) == (3, 2, 1)
