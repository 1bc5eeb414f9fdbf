"""What the demo asks in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from client import EmendClient
from demo.interview import ASKED_A_LABEL, LABELS_AT_MOST, Interview
from demo.photos import Material, Pictures, digits
from tests.support.service import picture, running_service
from tests.support.tiny_encoder import tiny_folder

NOBODY = EmendClient("http://127.0.0.1:9")  # nothing is asked here


def test_held_out_digits_are_asked_about_evenly() -> None:
    material = digits(seed=0)
    interview = Interview(NOBODY, material)
    assert interview.question == "What digit is this?"
    assert len(interview.options) == 10
    assert set(Counter(label for _, label in interview.asked).values()) == {ASKED_A_LABEL}
    assert not {image for image, _ in interview.asked} & set(material.corrections.images)


def test_of_many_labels_some_are_asked_about() -> None:
    labels = [f"label {number}" for number in range(30)]
    pictures = Pictures([label.encode() for label in labels], labels)
    material = Material("labels", pictures, pictures, [], [], "{}", "What is this?")
    interview = Interview(NOBODY, material)
    assert interview.options == labels[:LABELS_AT_MOST]
    assert [label for _, label in interview.asked] == interview.options


def test_nobody_is_there_to_ask_over_another_encoder(tmp_path: Path) -> None:
    encoder = tiny_folder(tmp_path / "encoder")
    pictures = Pictures([picture(1), picture(2)], ["fox", "dog"])
    material = Material("two", pictures, pictures, [], [], "{}", "What is this?")
    with (
        running_service(tmp_path / "data", encoder, vlm="none") as service,
        EmendClient(service.url) as client,
    ):
        assert not Interview(client, material).possible
