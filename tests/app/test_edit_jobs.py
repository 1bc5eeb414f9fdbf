"""`/edit-jobs` over HTTP; the worker's part is played through the registry."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from editing.methods import METHODS, config_schema
from registry.claims import claim_job, finish_job, heartbeat
from registry.methods import publish_method
from registry.session import transaction
from tests.support.service import RunningService, picture, problem_of, running_service
from tests.support.waiting import wait_for

SCHEMAS = {method: config_schema(method) for method in METHODS}  # what a worker publishes


def _announce(service: RunningService) -> None:
    with transaction(service.services.engine) as session:
        for method, schema in SCHEMAS.items():
            publish_method(session, method, schema, now=datetime.now(UTC))


def _claim(service: RunningService) -> tuple[str, int]:
    with transaction(service.services.engine) as session:
        job = claim_job(session, worker="a test", now=datetime.now(UTC))
        assert job is not None
        return job.id, job.attempt


@pytest.fixture
def announced(service: RunningService) -> RunningService:
    _announce(service)
    return service


@pytest.fixture(scope="module")
def shared_announced(shared_service: RunningService) -> RunningService:
    _announce(shared_service)
    return shared_service


def test_starting_makes_the_gathering_job_due(announced: RunningService) -> None:
    gathering = announced.correct(picture(1), "stop")["edit_job"]["id"]
    answer = announced.http.post("/edit-jobs", json={"config": {"rank": 8}, "seed": 5})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/edit-jobs/{gathering}"
    assert (job["id"], job["config"], job["seed"]) == (gathering, {"rank": 8}, 5)
    assert datetime.fromisoformat(job["starts_at"]) <= datetime.now(UTC)
    assert job["progress"] == {"phase": "waiting", "step": 0, "steps": 0, "loss": None}
    assert announced.http.get("/edit-jobs").json()["edit_jobs"] == [job]
    assert _claim(announced)[0] == gathering


def test_an_edit_without_corrections_is_refused(shared_announced: RunningService) -> None:
    for content in ({"json": {"method": "lorsu"}}, {}):
        answer = shared_announced.http.post("/edit-jobs", **content)
        assert problem_of(answer, 409)["type"].endswith("nothing-to-edit")


def test_without_a_worker_no_method_is_known_yet(service: RunningService) -> None:
    answer = service.http.post("/edit-jobs", json={"method": "lorsu"})
    assert problem_of(answer, 503)["type"].endswith("no-methods")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ('{"rank": 0}', "config.rank"),
        ('{"rank": "8"}', "config.rank"),
        ('{"fc1_fraction": 2}', "config.fc1_fraction"),
        ('{"learning_rate": -1}', "config.learning_rate"),
        ('{"warmth": 1}', "config.warmth"),
        ('{"augmentation": {"crop": 2}}', "config.augmentation.crop"),
    ],
)
def test_a_wrong_config_names_its_field(
    shared_announced: RunningService, config: str, field: str
) -> None:
    content = {"method": "lorsu", "config": json.loads(config)}
    problem = problem_of(shared_announced.http.post("/edit-jobs", json=content), 422)
    assert problem["type"].endswith("config-invalid")
    assert [entry["field"] for entry in problem["errors"]] == [field]


def test_the_example_of_the_documentation_is_accepted(announced: RunningService) -> None:
    schemas = announced.http.get("/openapi.json").json()["components"]["schemas"]
    announced.correct(picture(1), "stop")
    (example,) = schemas["EditJobRequest"]["examples"]
    answer = announced.http.post("/edit-jobs", json=example)
    assert answer.status_code == 202, answer.text
    assert answer.json()["config"] == example["config"] != {}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(
    shared_announced: RunningService, number: str
) -> None:
    answer = shared_announced.http.post(
        "/edit-jobs",
        content=f'{{"config": {{"learning_rate": {number}}}}}',
        headers={"content-type": "application/json"},
    )
    assert problem_of(answer, 422)["type"].endswith("json-invalid")


def test_an_unknown_method_names_the_known_ones(shared_announced: RunningService) -> None:
    answer = shared_announced.http.post("/edit-jobs", json={"method": "magic"})
    assert "lorsu" in problem_of(answer, 422)["detail"]
    methods = shared_announced.http.get("/edit-methods").json()["edit_methods"]
    assert methods == [
        {"name": name, "config_schema": schema} for name, schema in sorted(SCHEMAS.items())
    ]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_asked_for(announced: RunningService, method: str) -> None:
    announced.correct(picture(1), "stop")
    asked = {"method": method, "config": {"learning_rate": 1e-4}}
    answer = announced.http.post("/edit-jobs", json=asked)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["method"], job["config"]) == (method, asked["config"])


def test_a_method_refuses_the_settings_of_another(shared_announced: RunningService) -> None:
    content = {"method": "layernorm", "config": {"rank": 8}}
    problem = problem_of(shared_announced.http.post("/edit-jobs", json=content), 422)
    assert [entry["field"] for entry in problem["errors"]] == ["config.rank"]


def test_cancelling_ends_a_queued_job_and_asks_a_running_one(announced: RunningService) -> None:
    queued = announced.correct(picture(1), "stop")["edit_job"]["id"]
    answer = announced.http.delete(f"/edit-jobs/{queued}")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert problem_of(announced.http.delete(f"/edit-jobs/{queued}"), 409)["type"].endswith(
        "edit-job-finished"
    )
    announced.http.post("/edit-jobs", json={})
    running, attempt = _claim(announced)
    answer = announced.http.delete(f"/edit-jobs/{running}").json()
    assert (answer["status"], answer["cancel_requested"]) == ("running", True)
    with transaction(announced.services.engine) as session:
        assert heartbeat(session, running, attempt, now=datetime.now(UTC))


@pytest.mark.parametrize("path", ["/edit-jobs/none", "/edit-jobs/none/events"])
def test_an_unknown_job_is_not_found(shared_service: RunningService, path: str) -> None:
    assert problem_of(shared_service.http.get(path), 404)["type"].endswith("edit-job-unknown")
    if not path.endswith("events"):
        problem_of(shared_service.http.delete(path), 404)


def test_events_tell_each_change_until_the_job_ends(announced: RunningService) -> None:
    job = announced.correct(picture(1), "stop")["edit_job"]["id"]
    announced.http.post("/edit-jobs", json={})
    seen: list[dict[str, Any]] = []
    progress = {"phase": "training", "step": 3, "steps": 9, "loss": 0.5}
    with announced.http.stream("GET", f"/edit-jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for state in _states(stream.iter_lines()):
            seen.append(state)
            if state["status"] == "queued":
                _claim(announced)
            elif state["progress"]["phase"] == "waiting":
                with transaction(announced.services.engine) as session:
                    heartbeat(session, job, 1, progress=progress, now=datetime.now(UTC))
            elif state["status"] == "running":
                with transaction(announced.services.engine) as session:
                    finish_job(
                        session,
                        job,
                        1,
                        status="rejected",
                        report={"verdict": "refused"},
                        now=datetime.now(UTC),
                    )
    assert [state["status"] for state in seen] == ["queued", "running", "running", "rejected"]
    assert seen[2]["progress"] == progress
    assert seen[3]["report"] == {"verdict": "refused"}
    assert seen[3] == announced.http.get(f"/edit-jobs/{job}").json()


def _states(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def test_a_stream_ends_when_the_service_stops(tmp_path: Path, tiny_encoder: Path) -> None:
    lines: list[str] = []

    def read_to_end(url: str) -> None:
        with httpx.stream("GET", url, timeout=30) as stream:
            lines.extend(line for line in stream.iter_lines())
        lines.append("end")

    with running_service(tmp_path / "data", tiny_encoder) as service:
        job = service.correct(picture(1), "stop")["edit_job"]["id"]
        url = f"{service.url}/edit-jobs/{job}/events"
        reader = threading.Thread(target=read_to_end, args=(url,))
        reader.start()
        wait_for(
            lambda: 'route="/edit-jobs/{job_id}/events"' in service.http.get("/metrics").text,
            seconds=10,
            what="the stream to begin",
        )
    reader.join(timeout=10)
    assert not reader.is_alive()
    assert lines[0].startswith("data:")
    assert lines[-1] == "end"
