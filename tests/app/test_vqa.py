"""`/vqa`: answers, likelihoods, versions, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from app.visual_question import GREEDILY
from encoder.images import decode_image
from encoder.vlm.answering import generate, score_options
from tests.support.service import RunningService, data_uri, picture, problem_of

QUESTION = "What is this?"
OPTIONS = ("a stop sign", "a cat", "yes", "no", "a much longer answer than the others")
URN = "urn:emend:problem:"


def test_options_are_scored_as_the_model_itself_scores_them(
    asked_service: RunningService,
) -> None:
    answer = asked_service.ask(picture(1), QUESTION, *OPTIONS)
    vlm = asked_service.services.vlm.model()
    _, encoder = asked_service.services.encoder.at(0)
    image = decode_image(picture(1), max_bytes=10**6, max_pixels=10**6)
    tokens = vlm.image_tokens(encoder, vlm.pixels(encoder, image)[None])[0]
    (expected,) = score_options(vlm, [vlm.question(QUESTION, tokens)], [OPTIONS])
    assert [each["option"] for each in answer["options"]] == list(OPTIONS)
    for told, score in zip(answer["options"], expected, strict=True):
        assert told["log_likelihood"] == pytest.approx(score.log_likelihood, abs=1e-4)
        assert told["tokens"] == score.tokens
        assert told["mean_log_likelihood"] == pytest.approx(score.mean, abs=1e-4)
    assert answer["model"] == vlm.name
    assert answer["encoder_digest"] == encoder.digest
    assert answer["prompt_tokens"] > len(tokens)
    assert answer["answer_tokens"] == 0


@pytest.mark.parametrize("normalise", [True, False])
def test_the_answer_is_the_likeliest_option_by_token_or_as_a_whole(
    asked_service: RunningService, normalise: bool
) -> None:
    for seed in range(5):
        answer = asked_service.ask(
            picture(seed), QUESTION, *OPTIONS, normalise=str(normalise).lower()
        )
        deciding = "mean_log_likelihood" if normalise else "log_likelihood"
        best = max(answer["options"], key=lambda each: each[deciding])
        assert answer["answer"] == best["option"]
        assert answer["normalised"] is normalise
        scores = [each["score"] for each in answer["options"]]
        assert sum(scores) == pytest.approx(1)
        first, second = answer["options"][:2]
        odds = math.exp(first[deciding] - second[deciding])
        assert first["score"] / second["score"] == pytest.approx(odds, rel=1e-3)


def test_length_counts_unless_normalised_which_can_change_the_answer(
    asked_service: RunningService,
) -> None:
    answer = asked_service.ask(picture(1), QUESTION, *OPTIONS)
    assert answer["normalised"] is False
    chosen = {
        asked_service.ask(picture(1), QUESTION, *OPTIONS, normalise=flag)["answer"]
        for flag in ("true", "false")
    }
    assert len(chosen) == 2


def test_without_options_the_answer_is_generated_greedily(asked_service: RunningService) -> None:
    answers = [asked_service.ask(picture(2), QUESTION) for _ in range(2)]
    vlm = asked_service.services.vlm.model()
    _, encoder = asked_service.services.encoder.at(0)
    image = decode_image(picture(2), max_bytes=10**6, max_pixels=10**6)
    tokens = vlm.image_tokens(encoder, vlm.pixels(encoder, image)[None])[0]
    (expected,) = generate(vlm, [vlm.question(QUESTION, tokens)], [GREEDILY])
    for answer in answers:
        assert answer["answer"] == expected.text.strip()
        assert answer["answer_tokens"] == expected.tokens > 0
        assert answer["finish_reason"] == expected.finish_reason
        assert answer["options"] == []


def test_json_and_multipart_mean_the_same(asked_service: RunningService) -> None:
    form = asked_service.ask(picture(3), QUESTION, *OPTIONS, adapter="1")
    for name in ("image", "images"):
        uri: Any = data_uri(picture(3))
        content = {
            name: uri if name == "image" else [uri],
            "question": QUESTION,
            "options": list(OPTIONS),
            "adapter": 1,
            "model": form["model"],
            "normalise": False,
        }
        answer = asked_service.http.post("/vqa", json=content)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-adapter-version"] == "1"
        assert answer.json() == form


def test_any_version_can_be_asked_and_sees_for_itself(asked_service: RunningService) -> None:
    live = asked_service.ask(picture(4), QUESTION, *OPTIONS)
    edited = asked_service.ask(picture(4), QUESTION, *OPTIONS, adapter="1")
    assert (live["adapter"], edited["adapter"]) == (0, 1)
    assert live["encoder_digest"] != edited["encoder_digest"]
    assert live["options"] != edited["options"]
    classified = asked_service.classify(picture(4), "a", adapter="1")
    assert classified["encoder_digest"] == edited["encoder_digest"]


@pytest.mark.parametrize(
    ("fields", "status", "slug", "named"),
    [
        ({}, 422, "field-invalid", "a question is needed"),
        ({"question": ""}, 422, "field-invalid", "empty"),
        ({"question": " \n\t "}, 422, "field-invalid", "empty"),
        ({"question": ["a", "b"]}, 422, "field-invalid", "once"),
        (
            {"question": "x" * 4_001},
            422,
            "field-invalid",
            "4001 characters, at most 4000",
        ),
        ({"question": "x" * 20_000}, 422, "field-invalid", "20000 characters"),
        ({"question": "what\x07?"}, 422, "field-invalid", "control characters"),
        ({"question": "x" * 4_000}, 422, "question-too-long", "tokens"),
        ({"question": "a", "option": ["one"]}, 422, "field-invalid", "no choice"),
        ({"question": "a", "option": ["é", "e\u0301 "]}, 422, "field-invalid", "option[0]"),
        ({"question": "a", "option": ["x", ""]}, 422, "field-invalid", "option[1]"),
        ({"question": "a", "option": ["x", "y" * 201]}, 422, "field-invalid", "201 characters"),
        ({"question": "a", "option": [f"{n}" for n in range(65)]}, 422, "field-invalid", "65"),
        ({"question": "a", "option": [f"{n}" for n in range(1000)]}, 422, "field-invalid", "1000"),
        ({"question": "a", "model": "gpt"}, 404, "model-unknown", "tiny-vlm"),
        ({"question": "a", "adapter": "99"}, 404, "adapter-unknown", "99"),
        ({"question": "a", "adapter": "newest"}, 422, "field-invalid", "newest"),
        ({"question": "a", "normalise": "maybe"}, 422, "field-invalid", "normalise"),
        ({"question": "a", "opiton": ["b"]}, 422, "field-invalid", "opiton"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    asked_service: RunningService, fields: dict[str, object], status: int, slug: str, named: str
) -> None:
    answer = asked_service.http.post("/vqa", files={"image": picture(1)}, data=fields)
    problem = problem_of(answer, status)
    assert problem["type"] == URN + slug
    assert named in problem["detail"]


def test_a_context_that_is_too_long_is_told_in_numbers(asked_service: RunningService) -> None:
    answer = asked_service.http.post(
        "/vqa", files={"image": picture(1)}, data={"question": "x" * 3_000}
    )
    (entry,) = problem_of(answer, 422)["errors"]
    assert entry["tokens"] > 3_000
    assert entry["limit"] == asked_service.services.vlm.model().context_length


def test_an_option_that_does_not_fit_is_told_and_its_neighbours_are_answered(
    asked_service: RunningService,
) -> None:
    """What the prompt leaves room for decides, not the count of characters alone."""
    room = asked_service.services.vlm.model().context_length
    long = "x" * (room - 100)
    answer = asked_service.http.post(
        "/vqa", files={"image": picture(1)}, data={"question": long, "option": ["a", "b" * 150]}
    )
    assert problem_of(answer, 422)["type"] == URN + "question-too-long"
    assert asked_service.ask(picture(1), long, "a", "b")["answer"] in ("a", "b")


@pytest.mark.parametrize(
    ("images", "status", "slug"),
    [
        ([], 422, "field-invalid"),
        ([picture(1), picture(2)], 422, "field-invalid"),
        ([b""], 422, "image-empty"),
        ([b"no image at all"], 422, "image-undecodable"),
        ([picture(1)[:60]], 422, "image-undecodable"),
    ],
)
def test_one_image_that_is_an_image(
    asked_service: RunningService, images: list[bytes], status: int, slug: str
) -> None:
    files = [("image", image) for image in images]
    answer = asked_service.http.post(
        "/vqa",
        files=files or None,
        data=None if not files else {"question": "a"},
        json={"question": "a"} if not files else None,
    )
    assert problem_of(answer, status)["type"] == URN + slug
