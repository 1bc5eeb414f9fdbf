"""A data folder with a tiny encoder, corrections to send, and a worker: here, or in a process."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image
from sqlalchemy import Engine

from editing.methods import METHODS
from encoder.clip import load_encoder
from registry import schema
from registry.adapters import get_adapter, list_adapters
from registry.artifacts import ArtifactStore, keep_artifact
from registry.edit_jobs import get_job, start_job
from registry.matching import NewCorrection
from registry.promotions import list_promotions, live_promotion, promote
from registry.session import default_url, open_database, reading, transaction
from registry.submissions import Submission, submit
from registry.tables import AdapterRecord, EditJob
from tests.support.tiny_encoder import tiny_folder
from tests.support.waiting import wait_for
from worker import startup
from worker.due_jobs import run_due_jobs
from worker.everyday import Everyday
from worker.settings import Settings
from worker.workshop import Workshop

COLOURS = {"apple": (200, 30, 30), "leaf": (30, 180, 40), "sea": (20, 60, 200)}
EVERYDAY = Everyday(("dog", "car", "tree", "house", "chair"), ("a photo of a {}.",))
ENDED = {"succeeded", "rejected", "failed", "cancelled"}
LEASE_SECONDS = 2.0  # of a desk's workers; a busy machine can keep it
QUICK: dict[str, Any] = {
    "epochs": 0,
    "min_steps": 60,
    "stop_margin": 0.5,
    "precision": "fp32",
    "learning_rate": 3e-3,
    "fc1_learning_rate": 3e-3,
    "guard_weight": 0.5,
    "augmentation": {"jitter": 0.2},  # their colours are all that tells them apart
}
"""A config that repairs a few plain images in a second, whatever the defaults are."""
Value = TypeVar("Value")


def picture(label: str, number: int) -> bytes:
    """A noisy PNG in the label's colour; equal arguments, equal bytes."""
    rng = random.Random(f"{label}{number}")
    noise = bytes(
        min(max(channel + rng.randint(-20, 20), 0), 255)
        for _ in range(32 * 32)
        for channel in COLOURS[label]
    )
    data = io.BytesIO()
    Image.frombytes("RGB", (32, 32), noise).save(data, "PNG")
    return data.getvalue()


def _quick(method: str) -> dict[str, Any]:
    return {name: value for name, value in QUICK.items() if name in METHODS[method].model_fields}


@dataclass(frozen=True)
class Desk:
    """A migrated data folder, seen as the API sees it. `settings` are the EMEND_ variables."""

    folder: Path
    engine: Engine
    store: ArtifactStore
    settings: dict[str, str]
    base_digest: str

    def correct(
        self,
        pictures: Sequence[tuple[str, int]],
        *,
        method: str = "lorsu",
        config: Mapping[str, Any] | None = None,
        label: str | None = None,
        replace: bool = False,
        seed: int = 0,
    ) -> Submission:
        """Corrections that are due at once, for `(label, number)` pictures; `label` overrides."""
        now = datetime.now(UTC)
        with transaction(self.engine) as session:
            items = []
            for shown, number in pictures:
                data = picture(shown, number)
                sha256 = self.store.put(data)
                keep_artifact(
                    session, self.store, sha256, size=len(data), media_type="image/png", now=now
                )
                items.append(NewCorrection(sha256, label or shown, vocabulary=[*COLOURS]))
            return submit(
                session,
                items,
                replace=replace,
                base_digest=self.base_digest,
                batch=1,
                wait=timedelta(0),
                now=now,
                method=method,
                config={**_quick(method), **(config or {})},
                seed=seed,
            )

    def start_job(self, config: Mapping[str, Any] | None = None) -> str:
        """`POST /edit-jobs`: the job's id."""
        with transaction(self.engine) as session:
            return start_job(
                session,
                method="lorsu",
                config={**QUICK, **(config or {})},
                seed=0,
                base_digest=self.base_digest,
                now=datetime.now(UTC),
            ).id

    def promote(self, version: int) -> None:
        """`POST /promotions`."""
        with transaction(self.engine) as session:
            live = live_promotion(session)
            promote(session, version, replaces=live.id, reason="by hand", now=datetime.now(UTC))

    def job(self, job_id: str) -> EditJob:
        with reading(self.engine) as session:
            return get_job(session, job_id)

    def adapter(self, version: int) -> AdapterRecord:
        with reading(self.engine) as session:
            return get_adapter(session, version)

    def versions(self) -> list[int]:
        with reading(self.engine) as session:
            return sorted(row.version for row in list_adapters(session).items)

    def promoted(self) -> list[int]:
        """Every version that was made live, oldest first."""
        with reading(self.engine) as session:
            return [row.version for row in reversed(list_promotions(session).items)]


@contextmanager
def open_desk(folder: Path, *, database_url: str | None = None, **settings: str) -> Iterator[Desk]:
    """On a migrated database, by default a new one in the data folder. `settings` are EMEND_
    variables without the prefix."""
    data = folder / "data"
    data.mkdir()
    if database_url is None:
        database_url = default_url(data)
        schema.upgrade(database_url)
    encoder = str(tiny_folder(folder / "encoder"))
    values = {
        "ENCODER": encoder,
        "DATA": str(data),
        "DATABASE_URL": database_url,
        "THREADS": "1",
        "LEASE": str(LEASE_SECONDS),
        "HEARTBEAT": "0.1",
        "FLIP_BUDGET": "100",
        **settings,
    }
    engine = open_database(database_url)
    try:
        yield Desk(
            folder,
            engine,
            ArtifactStore(values.get("ARTIFACTS", data / "artifacts")),
            {f"EMEND_{key}": value for key, value in values.items()},
            load_encoder(encoder).base_digest,
        )
    finally:
        engine.dispose()


@contextmanager
def open_shop(desk: Desk, patch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """A worker in this process: `run_due_jobs(workshop)` runs what is due."""
    for name, value in desk.settings.items():
        patch.setenv(name, value)
    patch.setattr(startup, "read_everyday", lambda: EVERYDAY)
    workshop = startup.open_workshop(Settings(), threading.Event())
    try:
        yield workshop
    finally:
        workshop.engine.dispose()


@dataclass(frozen=True)
class Here:
    """A desk with a worker in this process."""

    desk: Desk
    workshop: Workshop

    def edit(
        self,
        pictures: Sequence[tuple[str, int]],
        *,
        method: str = "lorsu",
        config: Mapping[str, Any] | None = None,
    ) -> EditJob:
        """Sends corrections and runs their job to its end."""
        return self.run(self.desk.correct(pictures, method=method, config=config).edit_job.id)

    def run(self, job_id: str) -> EditJob:
        run_due_jobs(self.workshop)
        job = self.desk.job(job_id)
        assert job.status in ENDED, job.status
        return job


@dataclass
class WorkerProcesses:
    """Worker processes on a desk."""

    desk: Desk
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, hold: str | None = None, *, deaf: bool = False, **settings: str
    ) -> subprocess.Popen[bytes]:
        """One that is stopped at the phase `hold` of every job until `go`, `deaf` to its pulse."""
        self.hold_again()
        command = [sys.executable, "-m", "tests.support.held_worker", str(self.desk.folder)]
        extra = {f"EMEND_{key}": value for key, value in settings.items()}
        with (self.desk.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command + ([hold] if hold else []) + (["deaf"] if deaf else []),
                env={**os.environ, **self.desk.settings, **extra},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        return process

    def hold_again(self) -> None:
        for mark in ("held", "go"):
            (self.desk.folder / mark).unlink(missing_ok=True)

    def wait_until_held(self) -> None:
        self.wait((self.desk.folder / "held").exists, "the held phase")

    def go(self) -> None:
        (self.desk.folder / "go").touch()

    def wait(self, condition: Callable[[], Value], what: str) -> Value:
        try:
            return wait_for(condition, seconds=90, what=what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.log()}") from None

    def wait_until_ended(self, job_id: str) -> EditJob:
        self.wait(lambda: self.desk.job(job_id).status in ENDED, f"the end of job {job_id}")
        return self.desk.job(job_id)

    def log(self) -> str:
        path = self.desk.folder / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM; the exit code."""
        process.terminate()
        return process.wait(timeout=30)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                self.kill(process)
