"""Loading in the background, and following the live promotion."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import served_encoder
from app.main import create_app
from app.settings import Settings
from encoder.clip import Encoder, load_encoder
from registry import schema
from registry.promotions import live_promotion, promote
from registry.session import transaction
from tests.support.service import RunningService, picture, problem_of, running_service
from tests.support.waiting import wait_for


def test_requests_before_the_encoder_is_loaded_are_told_to_come_back(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*_: object, **__: object) -> Encoder:
        assert go_on.wait(30)
        return load_encoder(str(tiny_encoder))

    monkeypatch.setattr(served_encoder, "load_encoder", slow)
    settings = Settings(data=tmp_path, encoder=str(tiny_encoder))
    schema.upgrade(settings.database_location)
    with TestClient(create_app(settings)) as client:
        files, data = {"image": picture(1)}, {"label": "a"}
        for answer in (
            client.get("/health/ready"),
            client.post("/classify", files=files, data=data),
            client.post("/corrections", files=files, data=data),
            client.post("/promotions", json={"version": 0}),
            client.get("/adapters/live"),
        ):
            problem = problem_of(answer, 503)
            assert problem["type"].endswith("not-ready")
            assert "loaded" in problem["detail"]
            assert int(answer.headers["retry-after"]) > 0
        assert client.get("/health/live").status_code == 200
        go_on.set()
        wait_for(
            lambda: client.get("/health/ready").status_code == 200,
            seconds=30,
            what="the service to be ready",
        )
        assert client.post("/classify", files=files, data=data).status_code == 200


def test_a_promotion_by_the_worker_is_followed(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    with transaction(service.services.engine) as session:
        live = live_promotion(session)
        promote(session, version, replaces=live.id, reason="gate", now=datetime.now(UTC))
    wait_for(
        lambda: service.classify(picture(1), "a")["adapter"] == version,
        seconds=1.0,
        what="the promoted version to answer",
    )


def test_a_live_version_that_cannot_be_built_keeps_the_former_one_answering(
    service: RunningService,
) -> None:
    version = service.add_adapter(seed=1)
    for digest in service.digests_of(version):
        service.services.store.delete(digest)
    with transaction(service.services.engine) as session:
        live = live_promotion(session)
        promote(session, version, replaces=live.id, reason="gate", now=datetime.now(UTC))
    wait_for(
        lambda: service.services.encoder.unserved is not None,
        seconds=5,
        what="the failure to be noticed",
    )
    assert service.classify(picture(1), "a")["adapter"] == 0
    text = service.http.get("/metrics").text
    assert "emend_live_unserved 1.0" in text
    service.http.post("/promotions", json={"version": 0, "reason": "back"})
    assert service.services.encoder.unserved is None
    assert "emend_live_unserved 0.0" in service.http.get("/metrics").text


def test_a_restart_serves_the_version_that_was_live(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = tmp_path / "data"
    with running_service(folder, tiny_encoder) as service:
        version = service.add_adapter(seed=1)
        service.http.post("/promotions", json={"version": version})
        before = service.classify(picture(1), "a", "b")
    with running_service(folder, tiny_encoder) as service:
        after = service.classify(picture(1), "a", "b")
    assert after["adapter"] == version
    assert after["encoder_digest"] == before["encoder_digest"]
    assert after["predictions"][0]["labels"] == before["predictions"][0]["labels"]


def test_after_a_start_on_a_broken_version_an_operator_can_roll_back(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    folder = tmp_path / "data"
    with running_service(folder, tiny_encoder) as service:
        version = service.add_adapter(seed=1)
        service.http.post("/promotions", json={"version": version})
        for digest in service.digests_of(version):
            service.services.store.delete(digest)
    settings = Settings(data=folder, encoder=str(tiny_encoder), threads=1)
    with TestClient(create_app(settings)) as client:
        wait_for(
            lambda: "cannot be served" in client.get("/health/ready").text,
            seconds=30,
            what="the failure to be told",
        )
        problem_of(client.get("/health/ready"), 503)
        answer = client.post("/promotions", json={"version": 0, "reason": "back"})
        assert answer.status_code == 201
        assert client.get("/health/ready").status_code == 200
