"""Every error is a problem document with a stable type."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from app.problems import PROBLEMS, TYPE_PREFIX
from encoder import errors as encoding
from encoder.vlm import errors as asking
from registry import errors as stored
from tests.support.service import RunningService, picture, problem_of


def test_what_is_not_there_and_what_is_not_allowed(shared_service: RunningService) -> None:
    problem = problem_of(shared_service.http.get("/nowhere"), 404)
    assert problem["type"] == TYPE_PREFIX + "not-found"
    answer = shared_service.http.delete("/classify")
    assert problem_of(answer, 405)["type"] == TYPE_PREFIX + "method-not-allowed"
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/classify"),
        ("POST", "/corrections"),
        ("POST", "/control-sets/x/images"),
        ("POST", "/promotions"),
        ("POST", "/edit-jobs"),
        ("PUT", "/label-sets/x"),
    ],
)
def test_another_media_type_is_refused_everywhere(
    shared_service: RunningService, method: str, path: str
) -> None:
    for content_type in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        answer = shared_service.http.request(
            method, path, content=b"version=0", headers={"content-type": content_type}
        )
        problem = problem_of(answer, 415)
        assert content_type in problem["detail"]


@pytest.mark.parametrize("path", ["/classify", "/corrections", "/promotions", "/edit-jobs"])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b'{"version": NaN}',
        b'{"version": -1e400}',
        b'{"labels": ["\\ud800"]}',
        b"[" * 100_000,
        b'{"version": ' + b"9" * 5000 + b"}",
    ],
)
def test_broken_json_is_refused_everywhere(
    shared_service: RunningService, path: str, body: bytes
) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = shared_service.http.post(path, content=body, headers=headers)
    assert problem_of(answer, 422)["type"] == TYPE_PREFIX + "json-invalid"


@pytest.mark.parametrize("body", ["[]", '"text"', "3", '{"images": [[]]}', '{"labels": [null]}'])
def test_json_of_another_shape_is_refused(shared_service: RunningService, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = shared_service.http.post("/classify", content=body, headers=headers)
    problem_of(answer, 422)


@pytest.mark.parametrize(
    "image", ["", "data:image/png;base64,???", "https://example.org/a.png", "data:,x", 3]
)
def test_what_is_no_data_uri_is_refused(shared_service: RunningService, image: object) -> None:
    answer = shared_service.http.post("/classify", json={"images": [image], "labels": ["a"]})
    assert problem_of(answer, 422)["errors"][0]["field"] == "image[0]"


def test_broken_multipart_is_refused(shared_service: RunningService) -> None:
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = shared_service.http.post(
            "/classify", content=b"no part", headers={"content-type": content_type}
        )
        problem_of(answer, 400)


def test_an_unexpected_failure_says_nothing_of_the_inside(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(service.services.classification, "answer", fail)
    files, data = {"image": picture(1)}, {"label": "a"}
    answer = service.http.post("/classify", files=files, data=data)
    problem = problem_of(answer, 500)
    assert problem["type"] == TYPE_PREFIX + "unexpected"
    assert "secret" not in answer.text
    assert 'route="/classify",status="500"' in service.http.get("/metrics").text


def _classes(root: type[Exception]) -> Iterator[type[Exception]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _classes(kind)


def test_every_named_failure_that_a_request_can_meet_has_a_row() -> None:
    of_a_start = {*_classes(encoding.LoadError), encoding.LoadError, encoding.UnknownTowerLayout}
    of_a_start |= {stored.DataFolderUnwritable, asking.VlmError, asking.VlmLoadError}
    of_a_start |= {*_classes(asking.VlmLoadError)}
    known = {*_classes(encoding.EncoderError), *_classes(stored.RegistryError)} - of_a_start
    for root in (stored.BackupError, stored.BrokerError, stored.SecretError):
        known -= {root, *_classes(root)}
    without = [kind for kind in known if not any(row in PROBLEMS for row in kind.__mro__)]
    assert set(without) <= {stored.StorageError}
    assert all(re.fullmatch("[a-z0-9-]+", problem.slug) for problem in PROBLEMS.values())
