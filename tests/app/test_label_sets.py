"""`/label-sets` over HTTP."""

from __future__ import annotations

import pytest

from tests.support.service import RunningService, problem_of


def test_a_label_set_is_made_replaced_and_listed(service: RunningService) -> None:
    content = {"labels": [" stop ", "🛑", "توقف"], "templates": ["a {} sign"]}
    made = service.http.put("/label-sets/signs", json=content).json()
    assert made["labels"] == ["stop", "🛑", "توقف"]
    assert made["templates"] == ["a {} sign"]
    assert service.http.get("/label-sets/signs").json() == made
    replaced = service.http.put("/label-sets/signs", json={"labels": ["yield"]}).json()
    assert (replaced["labels"], replaced["templates"]) == (["yield"], [])
    service.http.put("/label-sets/animals", json={"labels": ["cat"]})
    listed = service.http.get("/label-sets").json()["label_sets"]
    assert [one["name"] for one in listed] == ["animals", "signs"]


@pytest.mark.parametrize(
    ("name", "content", "slug"),
    [
        ("signs", {"labels": []}, "label-invalid"),
        ("signs", {"labels": ["a", "a"]}, "label-duplicate"),
        ("signs", {"labels": ["e\u0301", "\u00e9"]}, "label-duplicate"),
        ("signs", {"labels": ["a", "   "]}, "label-invalid"),
        ("signs", {"labels": ["x" * 10_000]}, "label-invalid"),
        ("signs", {"labels": ["a"], "templates": ["none"]}, "template-invalid"),
        ("signs", {"labels": ["a"], "templates": ["{} and {}"]}, "template-invalid"),
        ("signs", {"labels": "a"}, "request-invalid"),
        ("signs", {"labels": [1]}, "request-invalid"),
        ("signs", {"label": ["a"]}, "request-invalid"),
        ("a name", {"labels": ["a"]}, "value-invalid"),
    ],
)
def test_a_bad_label_set_is_refused(
    shared_service: RunningService, name: str, content: object, slug: str
) -> None:
    answer = shared_service.http.put(f"/label-sets/{name}", json=content)
    assert problem_of(answer, 422)["type"] == f"urn:emend:problem:{slug}"
    assert shared_service.http.get("/label-sets").json() == {"label_sets": []}


NUMBERS = [str(number) for number in range(25_001)]


@pytest.mark.parametrize(
    "content",
    [
        {"labels": NUMBERS, "templates": ["{}"]},
        {"labels": ["a"], "templates": ["{} " + number for number in NUMBERS[:101]]},
        {"labels": ["a"], "templates": ["{}" + "x" * 499]},
        {"labels": NUMBERS[:2_001], "templates": ["{} " + number for number in NUMBERS[:100]]},
    ],
)
def test_a_label_set_over_the_limits_is_refused(
    shared_service: RunningService, content: object
) -> None:
    answer = shared_service.http.put("/label-sets/numbers", json=content)
    problem = problem_of(answer, 422)
    assert problem["type"] == "urn:emend:problem:field-invalid"
    assert "at most" in problem["detail"]


def test_the_largest_label_set_is_kept(service: RunningService) -> None:
    content = {"labels": NUMBERS[:25_000]}  # seven default templates each: 175,000 prompts
    assert service.http.put("/label-sets/numbers", json=content).status_code == 200


def test_the_first_label_that_is_no_text_is_told_of_and_no_other(
    shared_service: RunningService,
) -> None:
    answer = shared_service.http.put("/label-sets/signs", json={"labels": ["a", 1, 2, 3]})
    problem = problem_of(answer, 422)
    assert [entry["field"] for entry in problem["errors"]] == ["body.labels.1"]


def test_an_unknown_label_set_is_not_found(shared_service: RunningService) -> None:
    answer = shared_service.http.get("/label-sets/none")
    assert problem_of(answer, 404)["type"].endswith("label-set-unknown")
