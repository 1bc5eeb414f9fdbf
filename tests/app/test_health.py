"""`/health`, `/metrics`, `/docs` and `/`."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import httpx
import pytest

from registry.errors import DatabaseUnavailable
from tests.support.service import RunningService, picture, problem_of
from tests.support.waiting import wait_for


def test_a_ready_service_says_what_it_serves(shared_service: RunningService) -> None:
    assert shared_service.http.get("/health/live").json() == {"status": "alive"}
    ready = shared_service.http.get("/health/ready").json()
    assert (ready["status"], ready["live"]) == ("ready", 0)
    answer = shared_service.classify(picture(1), "a")
    assert answer["encoder_digest"] == ready["encoder_digest"]


def test_without_its_database_it_is_not_ready(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise DatabaseUnavailable("somewhere", "it went away")

    monkeypatch.setattr(service.services, "readiness", away)
    answer = service.http.get("/health/ready")
    assert problem_of(answer, 503)["type"].endswith("database-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert service.http.get("/health/live").status_code == 200


def test_metrics_count_by_route_and_never_by_path(service: RunningService) -> None:
    service.http.get("/edit-jobs/a")
    service.http.get("/edit-jobs/b")
    service.http.get("/somewhere/else")
    service.correct(picture(1), "a")
    service.classify(picture(1), "a")
    text = service.http.get("/metrics").text
    route = 'method="GET",route="/edit-jobs/{job_id}",status="404"'
    assert f"emend_requests_total{{{route}}} 2.0" in text
    assert 'route="unmatched",status="404"' in text
    assert "somewhere" not in text
    assert 'emend_edit_jobs{status="queued"} 1.0' in text
    assert "emend_live_version 0.0" in text
    assert "emend_classified_images_total 1.0" in text
    assert re.search(r'emend_request_seconds_bucket\{le="0.005",method="GET"', text)


@pytest.mark.parametrize(
    ("method", "path", "route", "media_type"),
    [
        ("POST", "/classify", "/classify", "multipart/form-data; boundary=x"),
        ("POST", "/classify", "/classify", "application/json"),
        ("PUT", "/label-sets/x", "/label-sets/{name}", "application/json"),
    ],
)
def test_a_client_that_goes_away_while_sending_is_no_failure_of_the_service(
    service: RunningService,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    route: str,
    media_type: str,
) -> None:
    url = httpx.URL(service.url)
    head = f"{method} {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: {media_type}\r\n"
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)
    try:
        with socket.create_connection((url.host, url.port or 0)) as connection:
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n--x\r\n".encode())
        counted = f'emend_requests_total{{method="{method}",route="{route}",status="499"}} 1.0'
        wait_for(
            lambda: counted in service.http.get("/metrics").text,
            seconds=10,
            what="the broken request to be counted",
        )
    finally:
        logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert 'status="500"' not in service.http.get("/metrics").text
    assert not caplog.records


def test_the_documentation_names_every_path_of_the_contract(
    shared_service: RunningService,
) -> None:
    description = shared_service.http.get("/openapi.json").json()
    shown = {
        f"{method.upper()} {path}"
        for path, methods in description["paths"].items()
        for method in methods
    }
    assert shown >= {
        "POST /classify",
        "POST /corrections",
        "GET /corrections",
        "GET /corrections/{correction_id}",
        "GET /corrections/{correction_id}/image",
        "DELETE /corrections/{correction_id}",
        "POST /edit-jobs",
        "GET /edit-jobs",
        "GET /edit-jobs/{job_id}",
        "GET /edit-jobs/{job_id}/events",
        "DELETE /edit-jobs/{job_id}",
        "GET /adapters",
        "GET /adapters/{version}",
        "GET /adapters/{version}/weights",
        "POST /promotions",
        "GET /promotions",
        "PUT /label-sets/{name}",
        "GET /label-sets",
        "GET /label-sets/{name}",
        "PUT /control-sets/{name}",
        "POST /control-sets/{name}/images",
        "GET /control-sets",
        "GET /control-sets/{name}",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
    }
    for path in ("/classify", "/corrections"):
        content = description["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"multipart/form-data", "application/json"}
    shown_errors = description["paths"]["/promotions"]["post"]["responses"]
    assert set(shown_errors) == {"201", "default"}
    assert "application/problem+json" in shown_errors["default"]["content"]
    page = shared_service.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text


def test_the_example_of_classify_works_as_it_stands(shared_service: RunningService) -> None:
    description = shared_service.http.get("/openapi.json").json()
    body = description["paths"]["/classify"]["post"]["requestBody"]["content"]
    answer = shared_service.http.post("/classify", json=body["application/json"]["example"])
    assert answer.status_code == 200, answer.text


def test_the_index_points_to_paths_that_exist(shared_service: RunningService) -> None:
    index = shared_service.http.get("/").json()
    assert index["service"] == "Emend"
    for name in ("documentation", "openapi", "ready"):
        assert shared_service.http.get(index[name]).status_code == 200


def test_the_data_folder_holds_everything(service: RunningService) -> None:
    service.classify(picture(1), "a")
    names = {path.name for path in Path(service.services.settings.data).iterdir()}
    assert {"emend.db", "artifacts", "text-features"} <= names
