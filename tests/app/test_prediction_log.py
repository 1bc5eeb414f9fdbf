"""Keeping predictions off the request's path."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from app import prediction_log
from app.errors import PredictionLogLost
from app.prediction_log import Answered
from registry.errors import StorageFull
from registry.identity import new_id
from registry.session import reading
from registry.tables import Prediction
from tests.support.service import RunningService, picture, problem_of, running_service
from tests.support.waiting import wait_for


def _kept(service: RunningService) -> list[Prediction]:
    service.services.predictions.flush()
    with reading(service.services.engine) as session:
        return list(session.scalars(select(Prediction).order_by(Prediction.id)))


def test_an_answer_is_kept_with_its_image(service: RunningService) -> None:
    image = picture(1)
    answer = service.classify(image, "a", "b", "c", top_k=2)["predictions"][0]
    (row,) = _kept(service)
    assert (row.id, row.version, row.vocabulary) == (answer["id"], 0, ["a", "b", "c"])
    assert row.answer == answer["labels"]
    assert service.services.store.get(row.image_sha256) == image


@pytest.mark.parametrize("settings", [{"keep_predictions": 0}, {"keep_bytes": 0}])
def test_nothing_is_kept_when_nothing_is_to_be(
    tmp_path: Path, tiny_encoder: Path, settings: dict[str, int]
) -> None:
    with running_service(tmp_path / "data", tiny_encoder, **settings) as service:
        prediction = service.classify(picture(1), "a")["predictions"][0]["id"]
        assert _kept(service) == []
        content = {"prediction": prediction, "label": "b"}
        problem_of(service.http.post("/corrections", json=content), 404)


def test_the_oldest_go_when_the_bytes_are_used_up(tmp_path: Path, tiny_encoder: Path) -> None:
    images = [picture(seed) for seed in range(4)]
    room = len(images[0]) * 5 // 2
    with running_service(tmp_path / "data", tiny_encoder, keep_bytes=room) as service:
        service.correct(images[0], "b")
        made = [service.classify(image, "a")["predictions"][0]["id"] for image in images]
        assert [row.id for row in _kept(service)] == made[2:]
        store = Path(service.services.settings.artifacts_location)
        files = [file for file in store.rglob("*") if file.is_file()]
        assert len(files) == 4  # version 0, the correction's image, two predictions


def test_a_slow_disk_delays_no_answer_and_a_correction_waits(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    put = service.services.store.put

    def slow(data: bytes) -> str:
        assert go_on.wait(30)
        return put(data)

    monkeypatch.setattr(service.services.store, "put", slow)
    prediction = service.classify(picture(1), "a")["predictions"][0]["id"]
    assert "emend_predictions_waiting 1.0" in service.http.get("/metrics").text
    answers: list[int] = []

    def correct() -> None:
        content = {"prediction": prediction, "label": "b"}
        answers.append(service.http.post("/corrections", json=content).status_code)

    correction = threading.Thread(target=correct)
    correction.start()
    service.classify(picture(2), "a")
    assert answers == []
    go_on.set()
    correction.join(timeout=30)
    assert answers == [202]


def test_what_cannot_be_kept_is_counted_and_harms_no_answer(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: bytes) -> str:
        raise StorageFull("the disk")

    monkeypatch.setattr(service.services.store, "put", full)
    service.classify(picture(1), "a")
    monkeypatch.setattr(prediction_log, "BATCHES_WAITING", 0)
    service.classify(picture(2), "a")
    assert _kept(service) == []
    wait_for(
        lambda: "emend_predictions_lost_total 2.0" in service.http.get("/metrics").text,
        seconds=10,
        what="both to be counted",
    )
    assert "emend_predictions_waiting 0.0" in service.http.get("/metrics").text


def _answered(image: bytes, scores: dict[str, float]) -> Answered:
    answer = [{"label": label, "score": score} for label, score in scores.items()]
    return Answered(new_id(), image, 0, None, tuple(scores), answer, datetime.now(UTC))


def test_a_score_that_is_no_number_is_kept_as_none(service: RunningService) -> None:
    service.services.predictions.keep([_answered(picture(1), {"a": float("nan"), "b": 0.5})])
    (row,) = _kept(service)
    assert row.answer == [{"label": "a", "score": None}, {"label": "b", "score": 0.5}]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unexpected_end_is_reported(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OverflowError("date value out of range")

    failures: list[Exception] = []
    monkeypatch.setattr(service.services.predictions, "on_failure", failures.append)
    monkeypatch.setattr(prediction_log, "surplus_predictions", fail)
    service.classify(picture(1), "a")
    (failure,) = wait_for(lambda: failures, seconds=10, what="the failure to be noticed")
    assert isinstance(failure, PredictionLogLost)
