"""Loading in the background, and following the live promotion."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import torch
from fastapi.testclient import TestClient

from app import served_encoder
from app.main import create_app
from app.settings import Settings
from encoder.clip import Encoder, load_encoder
from encoder.deltas import Dense
from encoder.pool import EncoderPool
from registry import schema
from registry.errors import SchemaBehind
from registry.patience import Clock, seconds_left, set_clock
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


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (SchemaBehind(found="of /the/inside", known="x"), "the database does not answer"),
        (PermissionError(13, "Permission denied", "/the/inside"), "Permission denied"),
    ],
)
def test_what_keeps_the_encoder_from_being_loaded_is_told_without_the_inside(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    said: str,
) -> None:
    def fail(*_: object, **__: object) -> Encoder:
        raise failure

    monkeypatch.setattr(served_encoder, "load_encoder", fail)
    settings = Settings(data=tmp_path, encoder=str(tiny_encoder))
    schema.upgrade(settings.database_location)
    with TestClient(create_app(settings)) as client:
        wait_for(
            lambda: said in client.get("/health/ready").text,
            seconds=30,
            what="the failure to be told",
        )
        assert "inside" not in problem_of(client.get("/health/ready"), 503)["detail"]


def test_a_promotion_by_the_worker_is_followed(service: RunningService) -> None:
    version = service.add_adapter(seed=1)
    _promote_as_worker(service, version)
    wait_for(
        lambda: service.classify(picture(1), "a")["adapter"] == version,
        seconds=1.0,
        what="the promoted version to answer",
    )


def _unserved(service: RunningService) -> bool:
    return "emend_live_unserved 1.0" in service.http.get("/metrics").text


def _promote_broken(service: RunningService) -> int:
    """A version whose file is gone; returns once the service has noticed."""
    version = service.add_adapter(seed=1)
    for digest in service.digests_of(version):
        service.services.store.delete(digest)
    _promote_as_worker(service, version)
    wait_for(lambda: _unserved(service), seconds=5, what="the failure to be noticed")
    return version


def test_a_live_version_that_cannot_be_built_keeps_the_former_one_answering(
    service: RunningService,
) -> None:
    _promote_broken(service)
    assert service.classify(picture(1), "a")["adapter"] == 0
    service.http.post("/promotions", json={"version": 0, "reason": "back"})
    assert not _unserved(service)


def test_memory_that_is_too_short_for_a_version_keeps_the_former_one_answering(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = service.add_adapter(seed=1)

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(Dense, "apply", full)
        problem = problem_of(service.http.post("/promotions", json={"version": version}), 503)
        assert problem["type"].endswith("out-of-memory")
        _promote_as_worker(service, version)
        wait_for(lambda: _unserved(service), seconds=5, what="the failure to be noticed")
        assert service.classify(picture(1), "a")["adapter"] == 0
    wait_for(
        lambda: service.classify(picture(1), "a")["adapter"] == version,
        seconds=10,
        what="the version to be served once there is memory",
    )


def test_building_a_version_is_not_taken_from_the_time_of_who_asks(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = service.add_adapter(seed=1)
    encoder, get = service.services.encoder, EncoderPool.get
    left: list[float | None] = []

    def watched(pool: EncoderPool, wanted: int) -> Encoder:
        if threading.current_thread() is threading.main_thread():
            left.append(seconds_left())
        return get(pool, wanted)

    def ask() -> None:
        set_clock(Clock(60))
        encoder.prepare(version)
        _promote_as_worker(service, version)
        encoder.refresh()
        assert seconds_left() is not None

    monkeypatch.setattr(EncoderPool, "get", watched)
    contextvars.copy_context().run(ask)
    assert len(left) >= 2
    assert set(left) == {None}


def test_only_the_watcher_tries_a_broken_version_again(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = _promote_broken(service)
    tried_by: list[str] = []
    get = service.services.store.get

    def watched(digest: str) -> bytes:
        tried_by.append(threading.current_thread().name)
        return get(digest)

    monkeypatch.setattr(service.services.store, "get", watched)
    for path in ("/edit-jobs", "/adapters/live", f"/adapters/{version}"):
        assert service.http.get(path).status_code == 200
    wait_for(lambda: tried_by, seconds=5, what="the watcher to try again")
    assert set(tried_by) == {"served-encoder"}


def test_classifying_does_not_wait_for_those_who_wait_for_a_swap(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = service.add_adapter(seed=1)
    go_on, get = threading.Event(), service.services.store.get

    def slow(digest: str) -> bytes:
        assert go_on.wait(60)
        return get(digest)

    monkeypatch.setattr(service.services.store, "get", slow)
    _promote_as_worker(service, version)
    several = httpx.Limits(max_connections=WAITING)
    with (
        httpx.Client(base_url=service.url, timeout=60, limits=several) as http,
        ThreadPoolExecutor(WAITING) as readers,
    ):
        answers = [readers.submit(http.get, "/edit-jobs") for _ in range(WAITING)]
        try:
            wait_for(
                lambda: _requests_under_way(service) == WAITING,
                seconds=30,
                what="all readers to wait",
            )
            assert service.classify(picture(1), "a")["adapter"] == 0
        finally:
            go_on.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert service.classify(picture(1), "a")["adapter"] == version


WAITING = 60  # more than the 40 threads that all else shares


def _requests_under_way(service: RunningService) -> int:
    news = service.services.news_slots.statistics()
    return news.borrowed_tokens + news.tasks_waiting


def _promote_as_worker(service: RunningService, version: int) -> None:
    with transaction(service.services.engine) as session:
        live = live_promotion(session)
        promote(session, version, replaces=live.id, reason="gate", now=datetime.now(UTC))


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
