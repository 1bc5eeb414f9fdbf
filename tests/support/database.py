"""A registry with a real database and a real folder of files, and short ways to fill it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import Session

from registry import schema
from registry.adapters import NewAdapter, ensure_base, get_adapter, record_adapter
from registry.artifacts import ArtifactStore, keep_artifact
from registry.claims import claim_job, finish_job
from registry.matching import NewCorrection
from registry.promotions import live_promotion, promote
from registry.session import open_database, reading, transaction
from registry.submissions import Submission, submit
from registry.tables import AdapterRecord, EditJob

BASE = hashlib.sha256(b"a tiny base encoder").hexdigest()
NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
WAIT = timedelta(seconds=5)
T = TypeVar("T")
NewDatabase = Callable[[str, Path], AbstractContextManager[str]]
"""`with new_database(kind, file) as url`, `kind` being "sqlite" or "postgresql"."""


@dataclass(frozen=True)
class Memory:
    """A migrated database and a store of files; with `ensure_base`, version 0 is live."""

    url: str
    engine: Engine
    store: ArtifactStore

    def writing(self) -> Any:
        return transaction(self.engine)

    def reading(self) -> Any:
        return reading(self.engine)

    def ensure_base(self, *, digest: str = BASE, name: str = "tiny") -> None:
        with transaction(self.engine) as session:
            ensure_base(
                session,
                self.store,
                name=name,
                pretrained=None,
                base_digest=digest,
                empty_adapter=b"the empty adapter",
                now=NOON,
            )

    def keep(self, session: Session, data: bytes, media_type: str = "image/png") -> str:
        sha256 = self.store.put(data)
        keep_artifact(session, self.store, sha256, size=len(data), media_type=media_type, now=NOON)
        return sha256

    def submit(
        self,
        labels: dict[str, str],
        *,
        replace: bool = False,
        batch: int = 20,
        wait: timedelta = WAIT,
        now: datetime = NOON,
    ) -> Submission:
        """One transaction; `labels`: image contents -> label."""
        with transaction(self.engine) as session:
            items = [
                NewCorrection(self.keep(session, image.encode()), label)
                for image, label in labels.items()
            ]
            return submit(
                session,
                items,
                replace=replace,
                base_digest=BASE,
                batch=batch,
                wait=wait,
                now=now,
            )

    def claim(self, *, worker: str = "worker", now: datetime = NOON + WAIT) -> EditJob | None:
        with transaction(self.engine) as session:
            return claim_job(session, worker=worker, now=now)

    def record(
        self,
        session: Session,
        job: EditJob,
        *,
        correction_ids: Sequence[str] = (),
        stacked_on: int | None = None,
    ) -> int:
        """A candidate of a running job."""
        data = f"adapter of {job.id}".encode()
        digest = self.store.put(data)
        assert job.parent is not None
        new = NewAdapter(
            parent=job.parent,
            stacked_on=stacked_on,
            method=job.method,
            config=job.config,
            seed=job.seed,
            base_name="tiny",
            base_pretrained=None,
            base_digest=BASE,
            digest=digest,
            bytes=len(data),
            parameters=12,
            strength=1.0,
            edit_job_id=job.id,
            report={"verdict": "promoted"},
            correction_ids=correction_ids,
        )
        return record_adapter(session, self.store, new, now=NOON)

    def edit(
        self,
        labels: dict[str, str],
        *,
        stacked: bool = False,
        verdict: str = "succeeded",
        now: datetime = NOON,
    ) -> int:
        """Submit, claim, record, promote when it succeeded, finish: the version."""
        submission = self.submit(labels, now=now)
        ids = [one.id for one in submission.corrections]
        job = self.claim(now=now + WAIT)
        assert job is not None
        with transaction(self.engine) as session:
            version = self.record(
                session,
                job,
                correction_ids=ids,
                stacked_on=(job.parent or None) if stacked else None,
            )
            if verdict == "succeeded":
                live = live_promotion(session)
                promote(
                    session,
                    version,
                    replaces=live.id,
                    reason="the gate",
                    edit_job_id=job.id,
                    now=now,
                )
            status: Any = verdict
            finish_job(
                session, job.id, job.attempt, status=status, adapter=version, report={}, now=now
            )
        return version


def stack_versions(memory: Memory, count: int) -> list[int]:
    """So many versions, the first on the base and each other on top of the one before: their rows.

    They share the file of version 0, so a real worker can load none of them.
    """
    with memory.writing() as session:
        base = get_adapter(session, 0)
        first = session.scalars(select(func.max(AdapterRecord.version))).one() + 1
        facts = {
            column.key: getattr(base, column.key) for column in AdapterRecord.__table__.columns
        }
        rows = [
            facts
            | {"version": first + number, "parent": first + number - 1 if number else 0}
            | {"stacked_on": first + number - 1 if number else None, "depth": number + 1}
            for number in range(count)
        ]
        session.execute(insert(AdapterRecord), rows)
    return [row["version"] for row in rows]


@contextmanager
def opened_memory(url: str, files: str | Path) -> Iterator[Memory]:
    """A registry on a migrated database; `files` is a folder or a URL."""
    engine = open_database(url)
    try:
        yield Memory(url, engine, ArtifactStore(files))
    finally:
        engine.dispose()


@contextmanager
def sqlite_memory(folder: Path) -> Iterator[Memory]:
    """A registry of its own in a folder, version 0 live."""
    url = f"sqlite:///{folder / 'emend.db'}"
    schema.upgrade(url)
    with opened_memory(url, folder / "artifacts") as memory:
        memory.ensure_base()
        yield memory


def together(count: int, act: Callable[[int], T]) -> list[T | Exception]:
    """Run `act(0) … act(count - 1)` in threads that start at once: what each gave or raised."""
    barrier = threading.Barrier(count)

    def run(index: int) -> T:
        barrier.wait()
        return act(index)

    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(run, index) for index in range(count)]
        late = wait(futures, timeout=60).not_done
        assert not late, "a thread hangs"
    return [_outcome(future) for future in futures]


def _outcome(future: Future[T]) -> T | Exception:
    raised = future.exception()
    if raised is None:
        return future.result()
    assert isinstance(raised, Exception)
    return raised
