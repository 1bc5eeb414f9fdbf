"""`/classify` over HTTP."""

from __future__ import annotations

import pytest

from tests.support.service import RunningService, data_uri, picture, problem_of


def test_every_image_gets_its_best_labels_in_order(shared_service: RunningService) -> None:
    pictures = [picture(seed) for seed in range(3)]
    answer = shared_service.http.post(
        "/classify",
        files=[("image", image) for image in pictures],
        data={"label": ["stop", "yield", "ahead only"], "top_k": "3"},
    )
    body = answer.json()
    assert answer.headers["x-adapter-version"] == "0"
    assert body["adapter"] == 0
    assert body["encoder_digest"] == shared_service.services.encoder.live()[1].digest
    assert len({prediction["id"] for prediction in body["predictions"]}) == 3
    for prediction in body["predictions"]:
        scores = [label["score"] for label in prediction["labels"]]
        assert sorted(scores, reverse=True) == scores
        assert sum(scores) == pytest.approx(1)
    alone = shared_service.classify(pictures[2], "stop", "yield", "ahead only", top_k=3)
    pairs = zip(alone["predictions"][0]["labels"], body["predictions"][2]["labels"], strict=True)
    for one, other in pairs:
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_json_says_the_same_as_multipart(shared_service: RunningService) -> None:
    image = picture(1)
    labels = ["red", "green", "blue", "black", "white", "grey"]
    form = shared_service.classify(image, *labels)
    content = {"images": [data_uri(image)], "labels": labels, "adapter": "live", "top_k": None}
    answer = shared_service.http.post("/classify", json=content).json()
    assert answer["predictions"][0]["labels"] == form["predictions"][0]["labels"]
    assert len(answer["predictions"][0]["labels"]) == 5  # top_k by default


def test_a_label_set_brings_its_labels_and_templates(shared_service: RunningService) -> None:
    labels, templates = ["cat", "dog"], ["a {} at night", "one {}"]
    shared_service.http.put("/label-sets/pets", json={"labels": labels, "templates": templates})
    image = picture(2)
    named = shared_service.classify(image, label_set="pets")
    spelt_out = shared_service.classify(image, *labels, template=templates)
    assert named["predictions"][0]["labels"] == spelt_out["predictions"][0]["labels"]
    default = shared_service.classify(image, *labels)
    assert named["predictions"][0]["labels"] != default["predictions"][0]["labels"]


def test_any_version_can_be_asked(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    image = picture(3)
    live = service.classify(image, "a", "b")
    answers = {
        reference: service.classify(image, "a", "b", adapter=reference)
        for reference in ("live", "0", str(version))
    }
    assert answers["live"]["predictions"][0]["labels"] == live["predictions"][0]["labels"]
    assert answers["0"]["adapter"] == 0
    assert answers["1"]["adapter"] == version == 1
    assert answers["1"]["encoder_digest"] != live["encoder_digest"]
    assert answers["1"]["predictions"][0]["labels"] != live["predictions"][0]["labels"]


def test_top_k_beyond_the_labels_gives_them_all(shared_service: RunningService) -> None:
    answer = shared_service.classify(picture(1), "🛑", "توقف", top_k=50)
    assert {one["label"] for one in answer["predictions"][0]["labels"]} == {"🛑", "توقف"}


@pytest.mark.parametrize(
    ("fields", "status", "slug"),
    [
        ({}, 422, "field-invalid"),
        ({"label": ["a"], "label_set": "signs"}, 422, "field-invalid"),
        ({"label_set": "nowhere"}, 404, "label-set-unknown"),
        ({"label": ["a", "a "]}, 422, "label-duplicate"),
        ({"label": ["a", ""]}, 422, "label-invalid"),
        ({"label": ["a", " \t "]}, 422, "label-invalid"),
        ({"label": ["x" * 10_000]}, 422, "label-invalid"),
        ({"label": ["a"], "template": ["no slot"]}, 422, "template-invalid"),
        ({"label": ["a"], "adapter": "99"}, 404, "adapter-unknown"),
        ({"label": ["a"], "adapter": "9" * 30}, 404, "adapter-unknown"),
        ({"label": ["a"], "adapter": "-1"}, 422, "field-invalid"),
        ({"label": ["a"], "adapter": "newest"}, 422, "field-invalid"),
        ({"label": ["a"], "top_k": "0"}, 422, "field-invalid"),
        ({"label": ["a"], "top_k": "2.5"}, 422, "field-invalid"),
        ({"label": ["a"], "lable": ["b"]}, 422, "field-invalid"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    shared_service: RunningService, fields: dict[str, object], status: int, slug: str
) -> None:
    answer = shared_service.http.post("/classify", files={"image": picture(1)}, data=fields)
    assert problem_of(answer, status)["type"] == f"urn:emend:problem:{slug}"


NUMBERS = [str(number) for number in range(25_001)]
TOO_MUCH = {
    "labels": ({"labels": NUMBERS}, "label"),
    "templates": ({"labels": ["a"], "templates": ["{} " + n for n in NUMBERS[:101]]}, "template"),
    "one template": ({"labels": ["a"], "templates": ["{}" + "x" * 499]}, "template"),
    "prompts": (
        {"labels": NUMBERS[:2_001], "templates": ["{} " + n for n in NUMBERS[:100]]},
        "label",
    ),
    "top_k": ({"labels": ["a"], "top_k": 1_001}, "top_k"),
}


@pytest.mark.parametrize(("fields", "field"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_more_than_the_text_tower_should_read_is_refused(
    shared_service: RunningService, fields: dict[str, object], field: str
) -> None:
    content = {"images": [data_uri(picture(1))], **fields}
    problem = problem_of(shared_service.http.post("/classify", json=content), 422)
    assert problem["errors"][0]["field"] == field
    assert "at most" in problem["detail"]


def test_templates_of_a_request_count_with_the_labels_of_a_set(service: RunningService) -> None:
    labels = NUMBERS[:2_001]
    content = {"labels": labels, "templates": ["a {}"]}
    assert service.http.put("/label-sets/numbers", json=content).status_code == 200
    templates = ["{} " + n for n in NUMBERS[:100]]
    asked = {"images": [data_uri(picture(1))], "label_set": "numbers", "templates": templates}
    problem = problem_of(service.http.post("/classify", json=asked), 422)
    assert "200000 prompts" in problem["detail"]


def test_65_images_are_too_many_and_64_are_not(shared_service: RunningService) -> None:
    files = [("image", picture(seed, size=(2, 2))) for seed in range(65)]
    answer = shared_service.http.post("/classify", files=files, data={"label": "a"})
    assert "64" in problem_of(answer, 422)["detail"]
    answer = shared_service.http.post("/classify", files=files[:64], data={"label": "a"})
    assert len(answer.json()["predictions"]) == 64


def test_a_request_without_an_image_is_refused(shared_service: RunningService) -> None:
    answer = shared_service.http.post("/classify", json={"labels": ["a"]})
    assert problem_of(answer, 422)["errors"][0]["field"] == "image"
