"""The sweep on both databases; `once` is called by hand, so nothing waits."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry.artifacts import get_artifact, release_artifacts
from registry.corrections import forget, get_correction
from registry.edit_jobs import get_job
from registry.errors import ArtifactMissing, DatabaseUnavailable
from registry.identity import new_id
from registry.predictions import NewPrediction, find_prediction, keep_predictions
from tests.support.database import Memory
from worker.hearing import DEAF_SECONDS
from worker.settings import Settings
from worker.sweep import MARK, NUDGE_AGAIN_SECONDS, Sweep

LONG_AGO = datetime.now(UTC) - timedelta(hours=30)


class Bench:
    def __init__(self, memory: Memory, folder: Path) -> None:
        self.memory = memory
        self.nudged: list[str] = []
        self.broker_takes = True
        self.ran_aside = 0
        self.idle = True
        self.warm_up = False
        self.stopping = threading.Event()
        self.failed = threading.Event()
        self.sweep = Sweep(
            engine=memory.engine,
            store=memory.store,
            settings=Settings(data=folder, keep_predictions=24, max_attempts=2),
            nudge=self.nudge,
            run_aside=self.run_aside,
            idle=lambda: self.idle,
            idle_work_is_due=lambda: self.warm_up,
            stopping=self.stopping,
            on_failure=self.failed.set,
        )

    def nudge(self, job_id: str) -> bool:
        self.nudged.append(job_id)
        if self.broker_takes:
            self.sweep.hearing.sent()
        return self.broker_takes

    def run_aside(self) -> None:
        self.ran_aside += 1


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(memory: Memory, tmp_path: Path) -> Bench:
    return Bench(memory, tmp_path)


def due_job(bench: Bench) -> str:
    return bench.memory.submit({"image": "stop"}, now=LONG_AGO).edit_job.id


def files(bench: Bench) -> list[Path]:
    """All files in the store."""
    return [file for file in Path(bench.memory.store.url).rglob("*") if file.is_file()]


def test_wakes_the_worker_for_a_due_job_once_in_a_while(bench: Bench) -> None:
    job_id = due_job(bench)
    bench.sweep.once()
    bench.sweep.once()
    assert bench.nudged == [job_id]
    bench.sweep._nudged[job_id] -= NUDGE_AGAIN_SECONDS
    bench.sweep.once()
    assert bench.nudged == [job_id, job_id]


def test_runs_what_is_due_without_a_broker_that_takes_no_nudge(bench: Bench) -> None:
    bench.broker_takes = False
    due_job(bench)
    bench.sweep.once()
    assert (len(bench.nudged), bench.ran_aside) == (1, 1)


def test_leaves_a_gathering_job_and_a_busy_worker_alone(bench: Bench) -> None:
    bench.memory.submit({"image": "stop"}, now=datetime.now(UTC), wait=timedelta(minutes=5))
    bench.sweep.once()
    bench.idle = False
    due_job(bench)
    bench.sweep.once()
    assert bench.nudged == []


def test_wakes_an_idle_worker_to_compute_ahead_only_when_no_job_is_due(bench: Bench) -> None:
    bench.warm_up = True
    bench.sweep.once()
    assert bench.nudged == ["none"]
    bench.nudged.clear()
    job_id = due_job(bench)
    bench.sweep.once()
    assert bench.nudged == [job_id]


def unheard_for(bench: Bench, seconds: float) -> None:
    """As if the first message was sent so long ago."""
    assert bench.sweep.hearing._since is not None
    bench.sweep.hearing._since -= seconds


def test_runs_what_is_due_when_nobody_hears_of_it(bench: Bench) -> None:
    due_job(bench)
    bench.sweep.once()
    assert bench.ran_aside == 0
    unheard_for(bench, DEAF_SECONDS)
    bench.sweep.once()
    bench.sweep.once()
    assert bench.ran_aside == 1


def test_somebody_hears_as_long_as_jobs_are_taken_or_none_is_due(bench: Bench) -> None:
    first = due_job(bench)
    bench.sweep.once()
    unheard_for(bench, DEAF_SECONDS)
    assert bench.memory.claim(now=datetime.now(UTC)) is not None  # elsewhere
    second = bench.memory.submit({"another": "stop"}, now=LONG_AGO).edit_job.id
    assert second != first
    bench.sweep.once()
    assert not bench.sweep.hearing.lost
    assert bench.ran_aside == 0


def test_a_broker_that_takes_no_messages_is_no_sign_of_deafness(bench: Bench) -> None:
    bench.broker_takes = False
    due_job(bench)
    bench.sweep.once()
    bench.sweep._nudged.clear()
    bench.sweep.once()
    assert bench.sweep.hearing._since is None


def test_takes_back_a_job_whose_worker_died_and_fails_it_in_the_end(bench: Bench) -> None:
    job_id = due_job(bench)
    for lost, status in ((1, "queued"), (2, "failed")):
        assert bench.memory.claim(now=LONG_AGO + timedelta(hours=1)) is not None
        bench.sweep.once()
        with bench.memory.reading() as session:
            job = get_job(session, job_id)
        assert (job.lost, job.status) == (lost, status)
    assert job.error is not None
    assert "stopped answering" in job.error["detail"]


def test_leaves_a_job_with_a_fresh_heartbeat_alone(bench: Bench) -> None:
    job_id = due_job(bench)
    assert bench.memory.claim(now=datetime.now(UTC)) is not None
    bench.sweep.once()
    with bench.memory.reading() as session:
        assert get_job(session, job_id).status == "running"


def test_lets_old_predictions_and_their_images_go(bench: Bench) -> None:
    old, young = new_id(), new_id()
    shas = {}
    for prediction_id, now in ((old, LONG_AGO), (young, datetime.now(UTC))):
        with bench.memory.writing() as session:
            shas[prediction_id] = bench.memory.keep(session, prediction_id.encode())
            new = NewPrediction(prediction_id, shas[prediction_id], 0, None, ["a"], [], 10)
            keep_predictions(session, [new], now=now)
    bench.sweep.once()
    with bench.memory.reading() as session:
        assert find_prediction(session, old) is None
        assert find_prediction(session, young) is not None
    assert not bench.memory.store.exists(shas[old])
    assert bench.memory.store.exists(shas[young])


def test_removes_what_a_failed_release_left(bench: Bench) -> None:
    kept = bench.memory.submit({"kept": "stop"})
    correction = bench.memory.submit({"forgotten": "stop"}).corrections[0].id
    with bench.memory.writing() as session:
        [forgotten] = forget(session, correction, now=LONG_AGO)  # and nobody releases the image
    bench.sweep.once()
    assert not bench.memory.store.exists(forgotten)
    with bench.memory.reading() as session:
        with pytest.raises(ArtifactMissing):
            get_artifact(session, forgotten)
        image = get_correction(session, kept.corrections[0].id).image_sha256
    assert bench.memory.store.exists(str(image))
    assert len(files(bench)) == 2  # version 0 and the image that is kept


def test_removes_old_files_that_no_row_ever_named_folder_by_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young = (bench.memory.store.put(data) for data in (b"old", b"young"))
    path = Path(bench.memory.store.url) / old[:2] / old
    os.utime(path, (0, 0))
    monkeypatch.setattr("worker.sweep.FOLDERS", (young[:2], old[:2]))
    minute = 60 * 1_000_000
    for now in (minute, minute + 59):
        bench.sweep.collect_strays(datetime.fromtimestamp(now, UTC))
        assert path.exists()
    bench.sweep.collect_strays(datetime.fromtimestamp(minute + 60, UTC))
    assert not path.exists()
    assert bench.memory.store.exists(young)
    assert len(files(bench)) == 2  # version 0 and the young one


def test_a_round_looks_after_files_without_a_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = bench.memory.store.put(b"put, and then the process died")
    os.utime(Path(bench.memory.store.url) / stray[:2] / stray, (0, 0))
    monkeypatch.setattr("worker.sweep.FOLDERS", (stray[:2],))
    bench.sweep.once()
    assert not bench.memory.store.exists(stray)


def test_removes_much_in_short_transactions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sweep.PAUSE_SECONDS", 0.0)
    with bench.memory.writing() as session:
        shas = [bench.memory.keep(session, bytes([number, 1])) for number in range(250)]
        rows = [NewPrediction(new_id(), sha256, 0, None, ["a"], [], 10) for sha256 in shas]
        keep_predictions(session, rows, now=LONG_AGO)
    removed: list[int] = []

    def count(*arguments: Any) -> list[str]:
        released = release_artifacts(*arguments)
        removed.append(len(released))
        return released

    monkeypatch.setattr("worker.sweep.release_artifacts", count)
    bench.sweep.once()
    assert removed == [100, 100, 50]
    assert len(files(bench)) == 1  # version 0


def test_a_round_looks_at_so_many_files_only_and_the_next_goes_on(bench: Bench) -> None:
    with bench.memory.writing() as session:
        for number in range(150):
            bench.memory.keep(session, bytes([number, 2]))  # and no row names it
    left = []
    for _ in range(3):
        bench.sweep.once()
        left.append(len(files(bench)))
    assert 50 <= left[0] <= 52  # of the first hundred, version 0 may be one
    assert left[1:] == [1, 1]
    with bench.memory.writing() as session:
        bench.memory.keep(session, b"unnamed too")
    bench.sweep.once()
    assert len(files(bench)) == 1, "it begins anew after the last file"


def test_a_locked_database_is_only_a_delay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.sweep.EVERY_SECONDS", 0.01)
    broken = threading.Event()

    def break_once() -> None:
        if not broken.is_set():
            broken.set()
            raise DatabaseUnavailable("here", "it is locked")
        bench.stopping.set()

    monkeypatch.setattr(bench.sweep, "once", break_once)
    thread = bench.sweep.start()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert "it is locked" in caplog.text


def test_only_a_round_that_went_through_leaves_its_mark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sweep.EVERY_SECONDS", 0.01)
    mark = bench.sweep.settings.data / MARK
    seen: list[bool] = []

    def once() -> None:
        seen.append(mark.exists())
        if len(seen) == 1:
            raise DatabaseUnavailable("here", "it is gone")
        if len(seen) == 3:
            bench.stopping.set()

    monkeypatch.setattr(bench.sweep, "once", once)
    bench.sweep.start().join(timeout=10)
    assert seen == [False, False, True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unexpected_end_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> list[str]:
        raise OverflowError("date value out of range")

    monkeypatch.setattr("worker.sweep.surplus_predictions", fail)
    thread = bench.sweep.start()
    thread.join(timeout=10)
    assert bench.failed.is_set()
    assert "ended unexpectedly" in caplog.text


def test_a_stop_is_no_failure(bench: Bench) -> None:
    bench.stopping.set()
    bench.sweep.start().join(timeout=10)
    assert not bench.failed.is_set()
