"""Bodies over the limit, announced or not, on every kind of path."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import json_route
from app.uploads import parse_json
from tests.support.service import RunningService, picture, problem_of, running_service

LIMIT = 20_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("small")
    with running_service(
        folder, tiny_encoder, max_request_bytes=LIMIT, max_image_bytes=5_000, max_image_pixels=900
    ) as service:
        yield service


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 10 * LIMIT])
@pytest.mark.parametrize("path", ["/classify", "/corrections", "/promotions"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused(
    small: RunningService, path: str, size: int, announced: bool
) -> None:
    body = b" " * size
    content = body if announced else iter([body[:1000], body[1000:]])
    answer = small.http.post(path, content=content, headers={"content-type": "application/json"})
    assert problem_of(answer, 413)["errors"][0]["limit"] == LIMIT


def test_multipart_over_the_limit_is_refused(small: RunningService) -> None:
    files = [("image", bytes(5_000))] * 5
    problem_of(small.http.post("/classify", files=files, data={"label": "a"}), 413)


def test_a_body_within_the_limit_is_read(small: RunningService) -> None:
    body = b'{"version": 0}'.ljust(LIMIT)
    headers = {"content-type": "application/json"}
    assert small.http.post("/promotions", content=body, headers=headers).status_code == 201


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/label-sets/x"), ("POST", "/promotions"), ("POST", "/edit-jobs")]
)
def test_json_without_images_has_a_lower_limit(
    shared_service: RunningService, method: str, path: str, announced: bool
) -> None:
    body = b"{}".ljust(json_route.LIMIT + 1)
    content = body if announced else iter([body[:1000], body[1000:]])
    headers = {"content-type": "application/json"}
    answer = shared_service.http.request(method, path, content=content, headers=headers)
    assert problem_of(answer, 413)["errors"][0]["limit"] == json_route.LIMIT


def test_images_in_json_are_not_under_the_lower_limit(shared_service: RunningService) -> None:
    body = b"{}".ljust(json_route.LIMIT + 1)
    headers = {"content-type": "application/json"}
    for path in ("/classify", "/control-sets/x/images"):
        answer = shared_service.http.post(path, content=body, headers=headers)
        assert problem_of(answer, 422)["errors"][0]["field"] == "image"


@pytest.mark.parametrize("size", [100, json_route.LIMIT])
def test_large_json_is_parsed_beside_the_event_loop(
    shared_service: RunningService, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    threads: list[str] = []

    def parse(body: bytes) -> Any:
        threads.append(threading.current_thread().name)
        return parse_json(body)

    monkeypatch.setattr(json_route, "parse_json", parse)
    headers = {"content-type": "application/json"}
    body = b'{"labels": ["a"]}'.ljust(size)
    answer = shared_service.http.put("/label-sets/x", content=body, headers=headers)
    assert answer.status_code == 200
    assert [name.startswith("AnyIO worker") for name in threads] == [size > 100]


def test_one_image_over_its_own_limits_is_refused(small: RunningService) -> None:
    for image, slug in (
        (bytes(5_001), "too-large"),
        (picture(1, size=(31, 30)), "too-many-pixels"),
    ):
        answer = small.http.post("/classify", files={"image": image}, data={"label": "a"})
        problem = problem_of(answer, 413)
        assert problem["type"].endswith(f"image-{slug}")
        assert problem["errors"][0]["field"] == "image[0]"
