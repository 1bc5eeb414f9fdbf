"""`/corrections` over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from registry.errors import StorageFull
from registry.session import reading
from registry.tables import Artifact, Correction
from tests.support.service import (
    RunningService,
    data_uri,
    picture,
    problem_of,
    running_service,
)


def _rows(service: RunningService) -> int:
    with reading(service.services.engine) as session:
        return session.scalars(select(func.count()).select_from(Correction)).one()


def _files(service: RunningService) -> set[str]:
    """Digests of all files in the store."""
    root = Path(service.services.settings.artifacts_location)
    return {file.name for file in root.rglob("*") if file.is_file()}


def test_a_batch_is_accepted_and_joins_one_job(service: RunningService) -> None:
    images = [picture(seed) for seed in range(3)]
    answer = service.http.post(
        "/corrections",
        files=[("image", image) for image in images],
        data={"label": ["a", "b", "c"], "predicted": ["x", "y", "z"], "note": "same for all"},
    )
    assert answer.status_code == 202
    body = answer.json()
    assert [one["status"] for one in body["corrections"]] == ["accepted"] * 3
    assert [one["duplicate_of"] for one in body["corrections"]] == [None] * 3
    assert answer.headers["location"] == f"/edit-jobs/{body['edit_job']['id']}"
    assert body["edit_job"]["status"] == "queued"
    ids = [one["id"] for one in body["corrections"]]
    assert service.http.get(answer.headers["location"]).json()["corrections"] == ids
    second = service.http.get(f"/corrections/{ids[1]}").json()
    assert (second["state"], second["label"], second["predicted"]) == ("pending", "b", "y")
    assert (second["note"], second["edit_job"]) == ("same for all", body["edit_job"]["id"])
    image = service.http.get(f"/corrections/{ids[1]}/image")
    assert image.content == images[1]
    assert image.headers["content-type"] == "image/png"


def test_one_label_stands_for_all_images(service: RunningService) -> None:
    content = {"images": [data_uri(picture(seed)) for seed in range(2)], "label": "🛑 توقف"}
    answer = service.http.post("/corrections", json=content)
    assert answer.status_code == 202
    listed = service.http.get("/corrections").json()
    assert {one["label"] for one in listed["corrections"]} == {"🛑 توقف"}


def test_the_same_again_is_a_duplicate_and_another_label_a_conflict(
    service: RunningService,
) -> None:
    image = picture(1)
    first = service.correct(image, "stop")["corrections"][0]["id"]
    again = service.correct(image, " stop ")["corrections"][0]
    assert (again["status"], again["duplicate_of"]) == ("duplicate", first)
    other = {"files": {"image": image}, "data": {"label": "yield"}}
    refused = problem_of(service.http.post("/corrections", **other), 409)
    assert refused["errors"][0]["earlier_id"] == first
    assert refused["errors"][0]["earlier_label"] == "stop"
    assert _rows(service) == 1
    accepted = service.http.post("/corrections", params={"replace": "true"}, **other)
    assert accepted.json()["corrections"][0]["status"] == "accepted"
    assert service.http.get(f"/corrections/{first}").json()["state"] == "superseded"


def test_a_refused_batch_leaves_nothing_behind(service: RunningService) -> None:
    service.correct(picture(1), "stop")
    files = _files(service)
    batch = [("image", picture(seed)) for seed in (2, 3, 1)]
    answer = service.http.post("/corrections", files=batch, data={"label": "yield"})
    problem_of(answer, 409)
    assert _rows(service) == 1
    assert _files(service) == files


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        ({}, 422, "field-invalid"),
        ({"label": ""}, 422, "label-invalid"),
        ({"label": " \u200b\t"}, 422, "label-invalid"),
        ({"label": "x" * 10_000}, 422, "label-invalid"),
        ({"label": ["a", "b"]}, 422, "field-invalid"),
        ({"label": "a", "predicted": ["a", "b"]}, 422, "field-invalid"),
        ({"label": "a", "predicted": " "}, 422, "label-invalid"),
        ({"label": "a", "label_set": "nowhere"}, 404, "label-set-unknown"),
        ({"label": "a", "prediction": "0" * 32}, 404, "prediction-unknown"),
        ({"label": "a", "replace": "perhaps"}, 422, "field-invalid"),
        ({"label": "a", "comment": "?"}, 422, "field-invalid"),
        ({"label": "a", "note": "x" * 10_000}, 422, "value-invalid"),
    ],
)
def test_bad_fields_are_refused_and_store_nothing(
    shared_service: RunningService, data: dict[str, object], status: int, slug: str
) -> None:
    files = _files(shared_service)
    answer = shared_service.http.post("/corrections", files={"image": picture(9)}, data=data)
    assert problem_of(answer, status)["type"] == f"urn:emend:problem:{slug}"
    assert _rows(shared_service) == 0
    assert _files(shared_service) == files


def test_a_label_outside_its_set_is_refused(service: RunningService) -> None:
    service.http.put("/label-sets/signs", json={"labels": ["stop", "yield"]})
    answer = service.http.post(
        "/corrections",
        files={"image": picture(1)},
        data={"label": "ahead", "label_set": "signs"},
    )
    assert problem_of(answer, 422)["type"].endswith("label-outside-set")
    assert service.correct(picture(1), "yield", label_set="signs")


def test_a_broken_image_refuses_the_whole_batch(shared_service: RunningService) -> None:
    files = [("image", picture(1)), ("image", picture(2)[:50])]
    answer = shared_service.http.post("/corrections", files=files, data={"label": "a"})
    assert problem_of(answer, 422)["errors"][0]["field"] == "image[1]"
    assert _rows(shared_service) == 0


def test_a_prediction_stands_for_its_image(service: RunningService) -> None:
    service.http.put("/label-sets/signs", json={"labels": ["stop", "yield"]})
    image = picture(4)
    best = service.classify(image, label_set="signs")["predictions"][0]
    ids = []
    for label in ("yield", "ahead only"):  # inside the set that was asked about, and outside
        image = picture(len(ids) + 4)
        best = service.classify(image, label_set="signs")["predictions"][0]
        answer = service.http.post("/corrections", json={"prediction": best["id"], "label": label})
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["corrections"][0]["id"])
        detail = service.http.get(f"/corrections/{ids[-1]}").json()
        assert detail["predicted"] == best["labels"][0]["label"]
        assert service.http.get(f"/corrections/{ids[-1]}/image").content == image
    with reading(service.services.engine) as session:
        inside, outside = (session.get(Correction, one) for one in ids)
        assert inside is not None
        assert outside is not None
        assert (inside.label_set, inside.vocabulary) == ("signs", None)
        assert (outside.label_set, outside.vocabulary) == (None, ["stop", "yield"])


def test_65_predictions_are_too_many_and_64_are_looked_up(shared_service: RunningService) -> None:
    content = {"prediction": ["0" * 32] * 65, "label": "a"}
    problem = problem_of(shared_service.http.post("/corrections", json=content), 422)
    assert problem["errors"][0]["field"] == "prediction"
    assert "64" in problem["detail"]
    content = {"prediction": ["0" * 32] * 64, "label": "a"}
    problem_of(shared_service.http.post("/corrections", json=content), 404)


def test_a_prediction_of_another_image_is_refused(service: RunningService) -> None:
    prediction = service.classify(picture(1), "a", "b")["predictions"][0]["id"]
    data = {"label": "a", "prediction": prediction}
    answer = service.http.post("/corrections", files={"image": picture(2)}, data=data)
    assert problem_of(answer, 422)["errors"][0]["field"] == "prediction[0]"
    answer = service.http.post("/corrections", files={"image": picture(1)}, data=data)
    assert answer.status_code == 202


def test_forgetting_removes_the_image_for_good(service: RunningService) -> None:
    image = picture(1)
    correction = service.correct(image, "stop")["corrections"][0]["id"]
    files = _files(service)
    path = f"/corrections/{correction}"
    assert service.http.delete(path).status_code == 204
    assert len(files - _files(service)) == 1
    problem_of(service.http.get(f"{path}/image"), 404)
    detail = service.http.get(path).json()
    assert (detail["state"], detail["image_sha256"]) == ("forgotten", None)
    assert service.http.delete(path).status_code == 204
    with reading(service.services.engine) as session:
        assert session.scalars(select(Artifact.media_type)).all() == ["application/vnd.safetensors"]
    assert service.correct(image, "yield")["corrections"][0]["status"] == "accepted"


def test_a_full_batch_is_due_at_once(tmp_path: Path, tiny_encoder: Path) -> None:
    settings = {"edit_batch": 2, "edit_wait": 1000}
    with running_service(tmp_path / "data", tiny_encoder, **settings) as service:
        job = service.correct(picture(1), "a")["edit_job"]["id"]
        starts = service.http.get(f"/edit-jobs/{job}").json()["starts_at"]
        assert datetime.fromisoformat(starts) > datetime.now(UTC) + timedelta(seconds=900)
        assert service.correct(picture(2), "a")["edit_job"]["id"] == job
        starts = service.http.get(f"/edit-jobs/{job}").json()["starts_at"]
        assert datetime.fromisoformat(starts) <= datetime.now(UTC)
        assert service.correct(picture(3), "a")["edit_job"]["id"] != job


def test_a_full_disk_is_said_and_nothing_is_accepted(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: bytes) -> str:
        raise StorageFull("the disk", 100)

    monkeypatch.setattr(service.services.store, "put", full)
    answer = service.http.post("/corrections", files={"image": picture(1)}, data={"label": "a"})
    assert problem_of(answer, 507)["type"].endswith("storage-full")
    assert int(answer.headers["retry-after"]) > 0
    assert "the disk" not in answer.text
    assert _rows(service) == 0


def test_listing_pages_by_cursor(service: RunningService) -> None:
    files = [("image", picture(seed)) for seed in range(5)]
    service.http.post("/corrections", files=files, data={"label": "a"})
    pages = list(_pages(service.http, "/corrections", "corrections", limit=2))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert len({one["id"] for page in pages for one in page}) == 5


def _pages(
    http: httpx.Client, path: str, noun: str, *, limit: int
) -> Iterator[list[dict[str, str]]]:
    cursor: dict[str, str] = {}
    while True:
        page = http.get(path, params={"limit": str(limit), **cursor}).json()
        yield page[noun]
        if page["next"] is None:
            return
        cursor = {"cursor": page["next"]}


@pytest.mark.parametrize("path", ["/corrections/none", "/corrections/none/image"])
def test_an_unknown_correction_is_not_found(shared_service: RunningService, path: str) -> None:
    assert problem_of(shared_service.http.get(path), 404)["type"].endswith("correction-unknown")


@pytest.mark.parametrize("query", ["cursor=nonsense", "limit=0", "limit=many"])
def test_a_bad_page_is_refused(shared_service: RunningService, query: str) -> None:
    problem_of(shared_service.http.get(f"/corrections?{query}"), 422)


def _answer(service: RunningService, **said: Any) -> httpx.Response:
    return service.http.post("/corrections", files={"image": picture(1)}, data=said)


def test_an_answer_to_a_question_is_a_correction(service: RunningService) -> None:
    service.correct(picture(1), "animal")
    said = {"question": "What is this?", "answer": "a fox", "wrong_answer": "a dog"}
    made = _answer(service, **said)
    assert made.status_code == 202
    [receipt] = made.json()["corrections"]
    found = service.http.get(f"/corrections/{receipt['id']}").json()
    assert {name: found[name] for name in said} == said
    assert (found["label"], found["predicted"]) == ("fox", "dog")
    assert _answer(service, **said).json()["corrections"][0]["duplicate_of"] == receipt["id"]
    problem = problem_of(_answer(service, **{**said, "answer": "a cat"}), 409)
    assert problem["errors"][0]["earlier_id"] == receipt["id"]
    assert problem["errors"][0]["question"] == "What is this?"
    replaced = _answer(service, **{**said, "answer": "a cat"}, replace="true")
    assert replaced.json()["corrections"][0]["status"] == "accepted"
    labels = service.http.get("/corrections").json()["corrections"]
    assert [one["question"] for one in labels] == ["What is this?", "What is this?", None]


def test_answers_come_once_an_image_or_once_for_all(service: RunningService) -> None:
    images = [data_uri(picture(seed)) for seed in range(2)]
    content = {"images": images, "question": "What is this?", "answers": ["a fox", "a dog"]}
    made = service.http.post("/corrections", json=content).json()["corrections"]
    found = [service.http.get(f"/corrections/{one['id']}").json()["answer"] for one in made]
    assert found == ["a fox", "a dog"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"answer": "a fox"}, "answer: it belongs to a question"),
        ({"label": "fox", "wrong_answer": "dog"}, "wrong_answer: it belongs to a question"),
        ({"question": "What is this?"}, "answer: the right answer"),
        ({"question": " ", "answer": "a fox"}, "the question is empty"),
        ({"question": "?" * 4001, "answer": "a fox"}, "has 4001 characters"),
        ({"question": "What is this?", "answer": " "}, "the answer is empty"),
        ({"question": "What is this?", "answer": "a", "wrong_answer": "A."}, "is the right one"),
    ],
)
def test_an_answer_that_teaches_nothing_is_refused(
    shared_service: RunningService, said: dict[str, str], told: str
) -> None:
    assert told in problem_of(_answer(shared_service, **said), 422)["detail"]


def test_no_caption_and_no_model_leave_nothing_to_learn(service: RunningService) -> None:
    said = {"question": "Is this a fox?", "answer": "no", "wrong_answer": "yes"}
    problem = problem_of(_answer(service, **said), 409)
    assert problem["type"].endswith("vlm-needed")
    assert "EMEND_VLM is none" in problem["detail"]
    assert "likelihood" in problem["detail"]
    assert _rows(service) == 0
    assert _answer(service, **said, label="dog").status_code == 202


@pytest.mark.parametrize(
    "said",
    [
        {"question": "why? " * 500, "answer": "a fox"},
        {"question": "What is this?", "answer": "so " * 300},
        {"question": "What is this?", "answer": "a fox", "wrong_answer": "so " * 300},
    ],
)
def test_an_answer_that_the_model_has_no_room_for_is_refused(
    asked_service: RunningService, said: dict[str, str]
) -> None:
    problem = problem_of(_answer(asked_service, **said), 422)
    assert problem["type"].endswith("question-too-long")
    assert _rows(asked_service) == 0


def test_with_a_model_an_answer_needs_no_caption(tmp_path: Path, tiny_encoder: Path) -> None:
    settings = {"vlm": "somewhere", "vlm_load": "lazy"}
    with running_service(tmp_path / "data", tiny_encoder, **settings) as service:
        made = _answer(service, question="Is this a fox?", answer="no", wrong_answer="yes")
        assert made.status_code == 202
        found = service.http.get(f"/corrections/{made.json()['corrections'][0]['id']}").json()
        assert (found["label"], found["answer"]) == ("", "no")
