"""Idle workers put long chains into snapshots; jobs come first, and history stays as it is."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import select

from encoder.adapter import Adapter
from encoder.clip import Encoder
from encoder.snapshot import Snapshot
from registry.artifacts import ArtifactStore
from registry.errors import StorageFull
from registry.session import reading
from registry.snapshots import SHALLOW, chain
from registry.tables import SnapshotRecord
from tests.support.database import together
from tests.support.running_worker import Here, WorkerProcesses
from tests.support.stacked_adapters import record_stack
from tests.support.tiny_encoder import state_bytes
from worker.compaction import Compaction
from worker.due_jobs import run_due_jobs
from worker.sweep import Sweep
from worker.versions import load_version

DEEP = SHALLOW + 1
SECOND = [("leaf", 2), ("sea", 2)]


def stack(here: Here, count: int = DEEP) -> list[Adapter]:
    return record_stack(here.desk.engine, here.desk.store, here.workshop.base, count)


def snapshots(here: Here) -> list[int]:
    with reading(here.desk.engine) as session:
        return list(session.scalars(select(SnapshotRecord.version).order_by("version")))


def file_of(here: Here, version: int) -> str:
    with reading(here.desk.engine) as session:
        found = chain(session, version).snapshot
    assert found is not None
    return found.digest


def assert_same(one: Encoder, other: Encoder) -> None:
    assert one.digest == other.digest
    assert state_bytes(one.model) == state_bytes(other.model)


def sweep_of(here: Here, compaction: Compaction, nudged: list[str]) -> Sweep:
    return Sweep(
        engine=here.desk.engine,
        store=here.desk.store,
        settings=here.workshop.settings,
        nudge=lambda job_id: nudged.append(job_id) is None,
        run_aside=lambda: None,
        idle=lambda: True,
        idle_work_is_due=compaction.is_due,
        stopping=threading.Event(),
        on_failure=lambda: None,
    )


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_live_version_gets_a_snapshot_that_is_the_version(here: Here) -> None:
    adapters = stack(here)
    compaction, nudged = Compaction(here.workshop), list[str]()
    sweep_of(here, compaction, nudged).once()
    assert nudged == ["none"]
    compaction.run()
    assert snapshots(here) == [DEEP]
    with reading(here.desk.engine) as session:
        assert chain(session, DEEP).adapters == ()
    assert_same(load_version(here.workshop, DEEP), here.workshop.base.merged(adapters))
    sweep_of(here, compaction, nudged).once()
    assert nudged == ["none"]
    for version, adapter in enumerate(adapters, start=1):  # as they were
        assert here.desk.store.get(here.desk.adapter(version).digest) == adapter.to_bytes()


def test_nothing_is_made_for_a_short_chain(here: Here) -> None:
    stack(here, SHALLOW)
    compaction = Compaction(here.workshop)
    assert not compaction.is_due()
    compaction.run()
    assert snapshots(here) == []


def test_an_idle_worker_process_compacts_by_itself_and_edits_on_top(
    here: Here, processes: WorkerProcesses
) -> None:
    stack(here)
    worker = processes.start()
    processes.wait(lambda: snapshots(here) == [DEEP], "the snapshot")
    job_id = here.desk.correct(SECOND, config={"replay": "stack"}).edit_job.id
    job = processes.wait_until_ended(job_id)
    assert (job.parent, job.adapter) == (DEEP, DEEP + 1)
    assert here.desk.adapter(DEEP + 1).stacked_on == DEEP
    assert processes.stop(worker) == 0


def test_a_job_in_between_comes_first(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.compaction.LOOK_EVERY_SECONDS", 0.0)
    stack(here)
    compaction, get = Compaction(here.workshop), ArtifactStore.get
    asked: list[str] = []
    came: list[str] = []

    def get_and_correct(store: ArtifactStore, digest: str) -> bytes:
        asked.append(digest)
        if len(asked) == 3:
            came.append(here.desk.correct(SECOND).edit_job.id)
        return get(store, digest)

    monkeypatch.setattr(ArtifactStore, "get", get_and_correct)
    compaction.run()
    assert (len(asked), snapshots(here)) == (3, [])
    assert here.desk.job(came[0]).status == "queued"
    run_due_jobs(here.workshop)
    assert here.desk.job(came[0]).status == "succeeded"
    here.desk.promote(DEEP)
    compaction.run()
    assert snapshots(here) == [DEEP]


def test_a_stop_interrupts_it(here: Here) -> None:
    stack(here)
    compaction = Compaction(here.workshop)
    here.workshop.stopping.set()
    compaction.run()
    assert snapshots(here) == []


def test_an_edit_on_top_of_a_snapshot_is_the_edit_on_top_of_the_chain(here: Here) -> None:
    adapters = stack(here)
    Compaction(here.workshop).run()
    job = here.edit(SECOND, config={"replay": "stack"})
    assert (job.status, job.parent) == ("succeeded", DEEP)
    top = here.desk.adapter(DEEP + 1)
    stored = Adapter.from_bytes(here.desk.store.get(top.digest), digest=top.digest)
    whole = here.workshop.base.merged(adapters)
    assert stored.provenance.stacked_on == whole.chain
    assert_same(load_version(here.workshop, DEEP + 1), whole.merged([stored]))
    assert (top.stacked_on, top.depth) == (DEEP, DEEP + 1)


def test_a_rollback_goes_through_snapshots(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.snapshots.MILESTONE", 5)
    adapters = stack(here, 14)
    compaction = Compaction(here.workshop)
    for _ in range(4):
        compaction.run()
    assert snapshots(here) == [5, 10]  # 14 is four files above the last of them
    for version in (12, 7, 5, 3):
        here.desk.promote(version)
        compaction.run()
        assert_same(
            load_version(here.workshop, version), here.workshop.base.merged(adapters[:version])
        )
    assert not compaction.is_due()


@pytest.mark.parametrize("damage", ["flipped", "gone", "another file"])
def test_a_damaged_snapshot_is_dropped_and_made_again(
    here: Here, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    adapters = stack(here)
    compaction = Compaction(here.workshop)
    compaction.run()
    digest = file_of(here, DEEP)
    [path] = here.desk.folder.rglob(digest)
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            good[:-1] + bytes([good[-1] ^ 1]) if damage == "flipped" else b"another file"
        )
    assert_same(load_version(here.workshop, DEEP), here.workshop.base.merged(adapters))
    assert f"the snapshot of version {DEEP} is dropped" in caplog.text
    assert snapshots(here) == []
    assert compaction.is_due()
    compaction.run()
    assert path.read_bytes() == good


def test_without_any_of_its_snapshots_a_version_is_merged_from_all_adapters(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.snapshots.MILESTONE", 5)
    adapters = stack(here, 12)
    compaction = Compaction(here.workshop)
    while compaction.is_due():
        compaction.run()
    for version in snapshots(here):
        here.desk.store.delete(file_of(here, version))
    assert_same(load_version(here.workshop, 12), here.workshop.base.merged(adapters))
    assert snapshots(here) == []


def test_a_version_that_cannot_be_merged_is_told_once(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    stack(here)
    here.desk.store.delete(here.desk.adapter(2).digest)
    compaction = Compaction(here.workshop)
    compaction.run()
    assert not compaction.is_due()
    compaction.run()
    assert caplog.text.count(f"version {DEEP} gets no snapshot") == 1


def test_a_full_store_is_asked_again_after_a_rest(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stack(here)
    compaction = Compaction(here.workshop)

    def full(_store: ArtifactStore, data: bytes) -> str:
        raise StorageFull("the disk", len(data))

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "put", full)
        compaction.run()
    assert "snapshots are made later" in caplog.text
    assert not compaction.is_due()
    monkeypatch.setattr(compaction, "_rests_until", 0.0)
    assert compaction.is_due()
    compaction.run()
    assert snapshots(here) == [DEEP]


def test_a_version_that_memory_is_too_short_for_is_passed_over_for_a_while(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stack(here)
    compaction = Compaction(here.workshop)

    def full(*_: object) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, "to_bytes", full)
        compaction.run()
    assert f"version {DEEP} gets its snapshot later" in caplog.text
    assert not compaction.is_due()
    monkeypatch.setattr(compaction, "_passed_over", {DEEP: time.monotonic()})
    assert compaction.is_due()
    compaction.run()
    assert snapshots(here) == [DEEP]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_several_workers_make_one(here: Here) -> None:
    adapters = stack(here)
    workers = [Compaction(here.workshop) for _ in range(3)]
    assert together(3, lambda number: workers[number].run()) == [None] * 3
    assert snapshots(here) == [DEEP]
    assert_same(load_version(here.workshop, DEEP), here.workshop.base.merged(adapters))


def test_snapshots_nobody_needs_go_with_their_files(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.snapshots.RECENT", 1)
    stack(here, 2 * DEEP)
    compaction = Compaction(here.workshop)
    here.desk.promote(DEEP)
    compaction.run()
    early = file_of(here, DEEP)
    here.desk.promote(2 * DEEP)
    compaction.run()
    assert snapshots(here) == [2 * DEEP]
    assert not here.desk.store.exists(early)
