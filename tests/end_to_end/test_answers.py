"""Corrections of answers over HTTP: real processes, a tiny encoder, a tiny model over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client import EmendClient, JobEnded, local_service
from encoder.clip import load_encoder
from tests.support.service import picture
from tests.support.tiny_encoder import tiny_folder
from tests.support.tiny_vlm import tiny_vlm_folder

WHAT = "What is this?"
OPTIONS = ["a cat", "a sign"]
TEACHABLE = {
    "learning_rate": 3e-2,
    "fc1_learning_rate": 3e-2,
    "fc1_fraction": 0.5,
    "guard_weight": 0.5,
    "precision": "fp32",
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[EmendClient]:
    encoder = tiny_folder(tmp_path / "encoder")
    vlm = tiny_vlm_folder(tmp_path / "vlm", load_encoder(str(encoder)))
    settings = {
        "EMEND_ENCODER": str(encoder),
        "EMEND_VLM": str(vlm),
        "EMEND_EDIT_WAIT": "600",
        "EMEND_FLIP_BUDGET": "100",
    }
    with local_service(tmp_path / "data", settings) as service:
        yield service


def _scores(service: EmendClient, image: bytes) -> dict[str, float]:
    data = {"question": WHAT, "option": OPTIONS}
    answer = service.request("POST", "/vqa", files={"image": image}, data=data).json()
    return {each["option"]: each["score"] for each in answer["options"]}


def _edit(service: EmendClient, image: bytes, right: str, wrong: str) -> dict[str, Any]:
    service.correct([image], question=WHAT, answer=right, wrong_answer=wrong)
    body = {"method": "lorsu", "config": TEACHABLE}
    job = service.request("POST", "/edit-jobs", json=body).json()
    return service.wait_job(job["id"])


def test_a_corrected_answer_is_served_rolled_back_and_guarded(service: EmendClient) -> None:
    image = picture(1)
    before = _scores(service, image)
    wrong, right = sorted(before, key=lambda option: -before[option])
    ended = _edit(service, image, right, wrong)
    assert ended["report"]["corrections"] == {"n": 1, "before": 0, "after": 100}
    assert service.adapter()["version"] == ended["adapter"] == 1
    after = _scores(service, image)
    assert after[right] > after[wrong]
    service.promote(0, "the former answer")
    assert _scores(service, image) == before

    service.ask_control_set("quiz", [image], [WHAT], answers=[wrong], options=OPTIONS, budget=0)
    with pytest.raises(JobEnded) as refused:  # the control set expects the former answer
        _edit(service, image, right, wrong)
    assert refused.value.job["status"] == "rejected"
    [_, quiz] = refused.value.job["report"]["controls"]
    assert (quiz["name"], quiz["kind"], quiz["n"]) == ("quiz", "vqa", 1)
    assert _scores(service, image) == before
