"""Snapshots of chains that are as long as one likes: rows only, the files are a few bytes."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import select

from registry.artifacts import discard_unkept, release_artifacts, unnamed_artifacts
from registry.errors import AdapterMissing, ArtifactMissing
from registry.promotions import live_promotion, promote
from registry.snapshots import (
    MILESTONE,
    RECENT,
    SHALLOW,
    Chain,
    StoredFile,
    chain,
    drop_snapshots,
    record_snapshot,
    surplus_snapshots,
    version_to_compact,
)
from registry.tables import AdapterRecord, SnapshotRecord
from tests.support.database import NOON, Memory, stack_versions, together


def compact(memory: Memory, version: int, data: bytes = b"") -> bool:
    """Stores and records a snapshot."""
    data = data or b"snapshot of %d" % version
    digest = memory.store.put(data)
    with memory.writing() as session:
        return record_snapshot(
            session, memory.store, version, digest=digest, size=len(data), now=NOON
        )


def make_live(memory: Memory, version: int) -> None:
    with memory.writing() as session:
        live = live_promotion(session)
        promote(session, version, replaces=live.id, reason="a test", now=NOON)


def files_of(memory: Memory, version: int) -> tuple[int | None, list[int]]:
    """Versions: that of the snapshot, those of the adapters."""
    with memory.reading() as session:
        found = chain(session, version)
    snapshot = None if found.snapshot is None else found.snapshot.version
    return snapshot, [file.version for file in found.adapters]


def to_compact(memory: Memory, *passed_over: int) -> int | None:
    with memory.reading() as session:
        return version_to_compact(session, passed_over=passed_over)


def snapshots(memory: Memory) -> list[int]:
    with memory.reading() as session:
        return list(session.scalars(select(SnapshotRecord.version).order_by("version")))


def test_a_chain_ends_at_the_nearest_snapshot(memory: Memory) -> None:
    stack_versions(memory, 9)
    assert files_of(memory, 9) == (None, [*range(1, 10)])
    compact(memory, 3)
    compact(memory, 6)
    assert files_of(memory, 9) == (6, [7, 8, 9])
    assert files_of(memory, 6) == (6, [])
    assert files_of(memory, 5) == (3, [4, 5])
    assert files_of(memory, 2) == (None, [1, 2])
    assert files_of(memory, 0) == (None, [])
    with memory.reading() as session:
        found = chain(session, 7)
        assert found.snapshot is not None
        assert memory.store.get(found.snapshot.digest) == b"snapshot of 6"
        row = session.get(AdapterRecord, 7)
        assert found.adapters == (StoredFile(7, row.digest, 7),)
        with pytest.raises(AdapterMissing):
            chain(session, 10)


def test_a_snapshot_that_cannot_be_used_is_walked_past(memory: Memory) -> None:
    stack_versions(memory, 5)
    compact(memory, 2)
    compact(memory, 4)
    with memory.reading() as session:
        upper = chain(session, 5).snapshot
        assert upper is not None
        lower = chain(session, 5, without=[upper.digest])
        assert lower.snapshot is not None
        assert (lower.snapshot.version, len(lower.adapters)) == (2, 3)
        whole = chain(session, 5, without=[upper.digest, lower.snapshot.digest])
        assert (whole.snapshot, len(whole.adapters)) == (None, 5)


def test_of_several_workers_one_snapshot_stays_and_no_other_file(memory: Memory) -> None:
    stack_versions(memory, 3)
    files = [b"made by %d" % (number % 3) for number in range(6)]  # two of each

    def work(number: int) -> bool:
        kept = compact(memory, 3, files[number])
        if not kept:
            with memory.writing() as session:
                discard_unkept(session, memory.store, [memory.store.put(files[number])])
        return kept

    assert sorted(together(6, work)) == [False] * 5 + [True]  # type: ignore[type-var]
    assert snapshots(memory) == [3]
    with memory.reading() as session:
        kept = chain(session, 3).snapshot
    assert kept is not None
    digests = {hashlib.sha256(data).hexdigest() for data in files}
    assert [digest for digest in digests if memory.store.exists(digest)] == [kept.digest]


def test_collection_keeps_the_file_of_a_snapshot_until_it_is_dropped(memory: Memory) -> None:
    stack_versions(memory, 2)
    compact(memory, 2)
    with memory.writing() as session:
        found = chain(session, 2).snapshot
        assert found is not None
        assert unnamed_artifacts(session)[0] == []
        assert release_artifacts(session, memory.store, [found.digest]) == []
    assert memory.store.exists(found.digest)
    with memory.writing() as session:
        dropped = drop_snapshots(session, [found.digest])
    with memory.writing() as session:
        assert release_artifacts(session, memory.store, dropped) == [found.digest]
    assert not memory.store.exists(found.digest)
    assert files_of(memory, 2) == (None, [1, 2])


def test_a_snapshot_needs_its_file_and_its_version(memory: Memory) -> None:
    stack_versions(memory, 1)
    with pytest.raises(ArtifactMissing), memory.writing() as session:
        record_snapshot(session, memory.store, 1, digest="a" * 64, size=1, now=NOON)
    digest = memory.store.put(b"x")
    with pytest.raises(AdapterMissing), memory.writing() as session:
        record_snapshot(session, memory.store, 5, digest=digest, size=1, now=NOON)


def test_short_chains_are_left_alone(memory: Memory) -> None:
    stack_versions(memory, SHALLOW)
    make_live(memory, SHALLOW)
    assert to_compact(memory) is None


def test_the_live_version_comes_first_by_way_of_milestones(memory: Memory) -> None:
    deep = 2 * MILESTONE + SHALLOW + 1
    stack_versions(memory, deep)
    make_live(memory, deep)
    made = []
    while (version := to_compact(memory)) is not None:
        _, adapters = files_of(memory, version)
        assert len(adapters) <= MILESTONE
        made.append(version)
        compact(memory, version)
    assert made == [MILESTONE, 2 * MILESTONE, deep]


def test_then_other_milestones_oldest_first(memory: Memory) -> None:
    stack_versions(memory, 2 * MILESTONE)
    branch = stack_versions(memory, MILESTONE + 1)  # another line, from the base
    make_live(memory, 1)
    assert to_compact(memory) == MILESTONE
    compact(memory, MILESTONE)
    assert to_compact(memory, 2 * MILESTONE) == branch[MILESTONE - 1]
    compact(memory, 2 * MILESTONE)
    compact(memory, branch[MILESTONE - 1])
    assert to_compact(memory) is None


def test_what_cannot_be_merged_is_passed_over(memory: Memory) -> None:
    stack_versions(memory, MILESTONE + 1)
    make_live(memory, MILESTONE + 1)
    assert to_compact(memory) == MILESTONE
    assert to_compact(memory, MILESTONE) == MILESTONE + 1
    assert to_compact(memory, MILESTONE, MILESTONE + 1) is None


def test_old_snapshots_go_except_those_that_bound_the_way(memory: Memory) -> None:
    stack_versions(memory, MILESTONE + 2 * RECENT)
    for version in range(MILESTONE - 10, MILESTONE + RECENT + 1):
        compact(memory, version)
    make_live(memory, MILESTONE - 4)  # rolled back to
    with memory.writing() as session:
        dropped = drop_snapshots(session, surplus_snapshots(session))
    with memory.writing() as session:
        assert sorted(release_artifacts(session, memory.store, dropped)) == dropped
    recent = [*range(MILESTONE + 1, MILESTONE + RECENT + 1)]
    assert snapshots(memory) == [MILESTONE - 4, MILESTONE, *recent]
    with memory.reading() as session:
        assert surplus_snapshots(session) == []


def test_version_10_000_takes_as_many_files_as_any(memory: Memory) -> None:
    deep = 10_000
    stack_versions(memory, deep)
    for version in (MILESTONE, deep - SHALLOW):
        compact(memory, version)
    make_live(memory, deep)
    assert files_of(memory, deep) == (deep - SHALLOW, [*range(deep - SHALLOW + 1, deep + 1)])
    assert to_compact(memory) == 2 * MILESTONE


def test_version_0_is_merged_from_nothing(memory: Memory) -> None:
    with memory.reading() as session:
        assert chain(session, 0) == Chain(None, ())
    assert to_compact(memory) is None
