"""Questions that control sets ask about images, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.control_questions import list_control_questions
from registry.session import reading
from tests.support.service import RunningService, data_uri, picture, problem_of, running_service


@pytest.fixture(scope="module")
def quiz(asked_service: RunningService) -> RunningService:
    """A service with a model."""
    return asked_service


def _set(service: RunningService, name: str) -> str:
    made = service.http.put(f"/control-sets/{name}", json={"budget": 0.5})
    assert made.status_code == 200
    assert made.json()["label_set"] is None
    return f"/control-sets/{name}/images"


def _asked(service: RunningService, name: str) -> list[tuple[str, str | None, list[str] | None]]:
    with reading(service.services.engine) as session:
        rows = list_control_questions(session, name)
        return sorted((row.question, row.answer, row.options) for row in rows)


def test_one_question_is_asked_about_every_image(quiz: RunningService) -> None:
    path = _set(quiz, "every")
    files = [("image", picture(seed)) for seed in range(3)]
    data = {"question": "What is this?", "answer": "a cup", "option": ["a cup", "a hat"]}
    answer = quiz.http.post(path, files=files, data=data)
    assert answer.status_code == 201
    assert (answer.json()["added"], answer.json()["duplicates"]) == (3, 0)
    counts = quiz.http.get("/control-sets/every").json()
    assert (counts["questions"], counts["answered"], counts["images"]) == (3, 3, 0)
    again = quiz.http.post(path, files=files[:1], data=data).json()
    assert (again["added"], again["duplicates"]) == (0, 1)
    assert _asked(quiz, "every") == [("What is this?", "a cup", ["a cup", "a hat"])] * 3


def test_one_image_is_asked_several_questions(quiz: RunningService) -> None:
    content = {
        "images": [data_uri(picture(1))],
        "questions": [
            {"question": "What is this?", "answer": "a cup", "options": ["a cup", "a hat"]},
            {"question": "Is it red?"},
        ],
    }
    answer = quiz.http.post(_set(quiz, "several"), json=content)
    assert answer.json()["control_set"]["questions"] == 2
    assert answer.json()["control_set"]["answered"] == 1
    assert _asked(quiz, "several") == [
        ("Is it red?", None, None),
        ("What is this?", "a cup", ["a cup", "a hat"]),
    ]


def test_each_image_may_have_a_question_of_its_own(quiz: RunningService) -> None:
    files = [("image", picture(seed)) for seed in (1, 2)]
    data = {"question": ["Is it red?", "Is it blue?"], "answer": ["yes", "no"]}
    assert quiz.http.post(_set(quiz, "own"), files=files, data=data).json()["added"] == 2
    assert _asked(quiz, "own") == [("Is it blue?", "no", None), ("Is it red?", "yes", None)]


def test_another_answer_to_the_same_question_is_a_conflict(quiz: RunningService) -> None:
    path, files = _set(quiz, "conflict"), {"image": picture(1)}
    quiz.http.post(path, files=files, data={"question": "Is it red?", "answer": "yes"})
    answer = quiz.http.post(path, files=files, data={"question": "Is it red?", "answer": "no"})
    problem = problem_of(answer, 409)
    assert problem["type"].endswith("control-question-conflict")
    assert problem["errors"][0]["question"] == "Is it red?"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"question": " "}, "the question is empty"),
        ({"question": "?" * 20_000}, "has 20000 characters"),
        ({"question": "What?", "options": ["one"]}, "must be 2 to 64, not 1"),
        ({"question": "What?", "options": ["one", "one "]}, "'one' stands twice"),
        ({"question": "What?", "options": [str(n) for n in range(1000)]}, "not 1000"),
        ({"question": "What?", "answer": "two", "options": ["one", "three"]}, "not among"),
        ({"question": "What?", "options": "one"}, "a list of texts"),
        ({"question": "What?", "answer": 7}, "text or null"),
        ({"answer": "two"}, "the question's text is needed"),
        ({"question": "What?", "label": "two"}, "unknown field"),
    ],
)
def test_a_bad_question_is_refused(quiz: RunningService, sent: dict[str, Any], told: str) -> None:
    content = {"images": [data_uri(picture(1))], "questions": [sent]}
    answer = quiz.http.post(_set(quiz, "bad"), json=content)
    assert told in problem_of(answer, 422)["detail"]
    assert quiz.http.get("/control-sets/bad").json()["questions"] == 0


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"question": ["a?", "b?"]}, "question"),
        ({"question": "a?", "answer": ["b", "c"]}, "answer"),
        ({"question": "a?", "label": "b"}, "label"),
        ({"answer": "b"}, "answer"),
        ({"option": ["a", "b"]}, "option"),
    ],
)
def test_questions_that_do_not_fit_their_images_are_refused(
    quiz: RunningService, sent: dict[str, Any], field: str
) -> None:
    files = [("image", picture(seed)) for seed in range(3)]
    problem = problem_of(quiz.http.post(_set(quiz, "unfit"), files=files, data=sent), 422)
    assert problem["errors"][0]["field"] == field


def test_a_question_that_the_model_has_no_room_for_is_refused(quiz: RunningService) -> None:
    for sent in ({"question": "why? " * 500}, {"question": "What?", "answer": "so " * 300}):
        content = {"images": [data_uri(picture(1))], "questions": [sent]}
        problem = problem_of(quiz.http.post(_set(quiz, "long"), json=content), 422)
        assert problem["type"].endswith(("question-too-long", "question-invalid"))
        assert "512" in problem["detail"]
    assert quiz.http.get("/control-sets/long").json()["questions"] == 0


def test_while_the_model_is_loading_questions_are_to_be_sent_again(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    settings = {"vlm": str(tmp_path / "nothing"), "vlm_load": "lazy"}
    with running_service(tmp_path / "data", tiny_encoder, **settings) as service:
        data = {"question": "Is it red?"}
        answer = service.http.post(_set(service, "soon"), files={"image": picture(1)}, data=data)
        assert problem_of(answer, 503)["type"].endswith(("vlm-loading", "vlm-unusable"))
        assert service.http.get("/control-sets/soon").json()["questions"] == 0


def test_no_more_than_1000_questions_come_at_once(quiz: RunningService) -> None:
    questions = [{"question": f"Is it {number}?"} for number in range(1001)]
    content = {"images": [data_uri(picture(1))], "questions": questions}
    answer = quiz.http.post(_set(quiz, "many"), json=content)
    assert "1001 questions; 1000 at most" in problem_of(answer, 422)["detail"]


def test_objects_are_no_labels(quiz: RunningService) -> None:
    content = {"images": [data_uri(picture(1))], "labels": [{"label": "cup"}]}
    problem = problem_of(quiz.http.post(_set(quiz, "objects"), json=content), 422)
    assert problem["errors"][0]["field"] == "label"


def test_images_that_are_not_asked_about_need_a_label_set(quiz: RunningService) -> None:
    answer = quiz.http.post(_set(quiz, "unlabelled"), files={"image": picture(1)})
    assert problem_of(answer, 409)["type"].endswith("label-set-needed")


def test_without_a_model_no_question_can_be_controlled(shared_service: RunningService) -> None:
    path = _set(shared_service, "nobody-asks")
    answer = shared_service.http.post(
        path, files={"image": picture(1)}, data={"question": "Is it red?", "answer": "yes"}
    )
    problem = problem_of(answer, 409)
    assert problem["type"].endswith("vlm-needed")
    assert "EMEND_VLM is none" in problem["detail"]
    assert shared_service.http.get("/control-sets/nobody-asks").json()["questions"] == 0
