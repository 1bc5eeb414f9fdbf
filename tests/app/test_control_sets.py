"""`/control-sets` over HTTP."""

from __future__ import annotations

import pytest

from tests.support.service import RunningService, data_uri, picture, problem_of


@pytest.fixture
def with_labels(service: RunningService) -> RunningService:
    service.http.put("/label-sets/things", json={"labels": ["cup", "hat"]})
    return service


def test_a_control_set_takes_images_with_and_without_labels(with_labels: RunningService) -> None:
    http = with_labels.http
    made = http.put("/control-sets/home", json={"label_set": "things", "budget": 0.5}).json()
    assert (made["label_set"], made["budget"]) == ("things", 0.5)
    assert (made["images"], made["labelled"]) == (0, 0)
    files = [("image", picture(seed)) for seed in range(3)]
    answer = http.post(
        "/control-sets/home/images", files=files, data={"label": ["cup", "hat", "cup"]}
    )
    assert answer.status_code == 201
    assert (answer.json()["added"], answer.json()["duplicates"]) == (3, 0)
    again = http.post("/control-sets/home/images", files=files[:1], data={"label": "cup"}).json()
    assert (again["added"], again["duplicates"]) == (0, 1)
    assert again["control_set"]["labelled"] == 3
    content = {"images": [data_uri(picture(7))]}
    unlabelled = http.post("/control-sets/home/images", json=content).json()
    assert (unlabelled["control_set"]["images"], unlabelled["control_set"]["labelled"]) == (4, 3)
    assert http.get("/control-sets/home").json() == unlabelled["control_set"]
    assert http.get("/control-sets").json()["control_sets"] == [unlabelled["control_set"]]


def test_more_than_64_control_images_may_come_at_once(with_labels: RunningService) -> None:
    with_labels.http.put("/control-sets/home", json={"label_set": "things"})
    files = [("image", picture(seed, size=(4, 4))) for seed in range(100)]
    answer = with_labels.http.post("/control-sets/home/images", files=files)
    assert answer.json()["added"] == 100


def test_a_wrong_label_refuses_all_images(with_labels: RunningService) -> None:
    http = with_labels.http
    http.put("/control-sets/home", json={"label_set": "things"})
    files = [("image", picture(seed)) for seed in range(2)]
    answer = http.post("/control-sets/home/images", files=files, data={"label": ["cup", "cat"]})
    assert problem_of(answer, 422)["type"].endswith("label-outside-set")
    assert http.get("/control-sets/home").json()["images"] == 0
    http.post("/control-sets/home/images", files=files, data={"label": "cup"})
    answer = http.post("/control-sets/home/images", files=files, data={"label": "hat"})
    assert problem_of(answer, 409)["type"].endswith("control-image-conflict")


def test_a_label_of_a_control_image_stays_in_its_label_set(with_labels: RunningService) -> None:
    http = with_labels.http
    http.put("/control-sets/home", json={"label_set": "things"})
    http.post("/control-sets/home/images", files={"image": picture(1)}, data={"label": "cup"})
    answer = http.put("/label-sets/things", json={"labels": ["hat"]})
    problem = problem_of(answer, 409)
    assert problem["type"].endswith("labels-in-use")
    assert problem["errors"][0]["control_set"] == "home"
    assert "'cup'" in problem["detail"]
    assert http.get("/label-sets/things").json()["labels"] == ["cup", "hat"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ('{"label_set": "nowhere"}', 404),
        ('{"label_set": "nowhere", "budget": -1}', 422),
        ('{"label_set": "nowhere", "budget": NaN}', 422),
        ('{"label_set": 1}', 422),
    ],
)
def test_a_bad_control_set_is_refused(
    shared_service: RunningService, content: str, status: int
) -> None:
    headers = {"content-type": "application/json"}
    answer = shared_service.http.put("/control-sets/home", content=content, headers=headers)
    problem_of(answer, status)


def test_an_unknown_control_set_is_not_found(shared_service: RunningService) -> None:
    files = {"image": picture(1)}
    for answer in (
        shared_service.http.get("/control-sets/none"),
        shared_service.http.post("/control-sets/none/images", files=files),
    ):
        assert problem_of(answer, 404)["type"].endswith("control-set-unknown")
    problem_of(shared_service.http.post("/control-sets/none/images", json={}), 422)
