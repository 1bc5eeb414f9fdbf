from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from registry.artifacts import (
    ASKED_AT_ONCE,
    ArtifactStore,
    discard_unkept,
    get_artifact,
    keep_artifact,
    release_artifacts,
    unnamed_artifacts,
)
from registry.control_sets import NewControlImage, add_control_images, put_control_set
from registry.corrections import list_corrections
from registry.errors import ArtifactCorrupt, ArtifactMissing, StorageFull, StorageUnavailable
from registry.label_sets import put_label_set
from registry.named_files import NAMED_BY
from registry.predictions import NewPrediction, keep_predictions
from registry.tables import Artifact, Row
from tests.support.database import NOON, Memory, sqlite_memory, together
from tests.support.places import Place
from tests.support.waiting import wait_for

LIMIT = 100_000
"""Bytes a file may have in the processes that fill it."""


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_bytes_come_back_under_their_hash(place: Place) -> None:
    store = ArtifactStore(place.url)
    sha256 = store.put(b"some bytes")
    assert sha256 == hashlib.sha256(b"some bytes").hexdigest()
    assert store.get(sha256) == b"some bytes"
    assert store.exists(sha256)
    assert store.put(b"some bytes") == sha256
    assert place.files() == [place.name(sha256)]
    assert store.get(store.put(b"")) == b""


def test_any_fsspec_store_does() -> None:
    store = ArtifactStore("memory://emend-test")
    sha256 = store.put(b"some bytes")
    assert ArtifactStore("memory://emend-test").get(sha256) == b"some bytes"
    store.delete(sha256)
    assert not store.exists(sha256)


def test_a_missing_file_is_named(place: Place) -> None:
    store = ArtifactStore(place.url)
    with pytest.raises(ArtifactMissing) as caught:
        store.get("a" * 64)
    assert caught.value.key == "a" * 64
    assert not store.exists("a" * 64)
    for odd in ("../../etc/passwd", "", "A" * 64):
        with pytest.raises(ArtifactMissing):
            store.get(odd)
    store.delete("a" * 64)


@pytest.mark.parametrize("damage", [b"some bytez", b"some", b""])
def test_a_damaged_file_is_never_handed_out_and_is_mended_by_storing_it_again(
    place: Place, damage: bytes
) -> None:
    store = ArtifactStore(place.url)
    sha256 = store.put(b"some bytes")
    place.overwrite(sha256, damage)
    with pytest.raises(ArtifactCorrupt) as caught:
        store.get(sha256)
    assert caught.value.expected == sha256
    assert caught.value.found == hashlib.sha256(damage).hexdigest()
    store.put(b"some bytes")
    assert store.get(sha256) == b"some bytes"


def test_what_another_process_stored_or_removed_is_seen_at_once(place: Place) -> None:
    here, there = ArtifactStore(place.url), ArtifactStore(place.url)
    sha256 = hashlib.sha256(b"some bytes").hexdigest()
    for _ in range(3):
        assert not here.exists(sha256)
        assert here.files(sha256[:2]) == []
        there.put(b"some bytes")
        assert here.exists(sha256)
        assert [file.name for file in here.files(sha256[:2])] == [place.name(sha256)]
        assert here.folders() == [sha256[:2]] or "incoming" in here.folders()
        there.delete(sha256)


def test_a_file_that_is_stored_again_is_new_again(place: Place) -> None:
    """Who collects files that nothing names leaves new ones alone."""
    store = ArtifactStore(place.url)
    sha256 = store.put(b"some bytes")
    [first] = store.files(sha256[:2])
    assert first.modified is not None
    assert abs((datetime.now(UTC) - first.modified).total_seconds()) < 60

    def stored_again() -> bool:
        store.put(b"some bytes")
        [again] = store.files(sha256[:2])
        assert (again.name, again.bytes) == (first.name, 10)
        return bool(again.modified and first.modified and again.modified > first.modified)

    wait_for(stored_again, seconds=10, what="a later modification time")  # S3 tells whole seconds


_FILL = f"""
import sys
from registry.artifacts import ArtifactStore
from registry.errors import StorageFull
store = ArtifactStore(sys.argv[1])
store.put(b"x" * {LIMIT // 2})
try:
    store.put(b"y" * {LIMIT * 2})
except StorageFull as full:
    print(full.needed, full)
"""


def test_a_full_disk_is_reported_and_nothing_is_left_behind(tmp_path: Path) -> None:
    filled = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FILL, str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert filled.stdout == (
        f"{LIMIT * 2} no room for {LIMIT * 2} bytes left in {tmp_path}; nothing was stored\n"
    )
    kept = hashlib.sha256(b"x" * (LIMIT // 2)).hexdigest()
    assert _files(tmp_path) == [f"{kept[:2]}/{kept}"]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A mounted file system of 1 MiB."""
    folder = Path(tempfile.mkdtemp(prefix="emend-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    store = ArtifactStore(small_disk)
    kept = [store.put(bytes([number]) * 300_000) for number in range(3)]
    with pytest.raises(StorageFull):
        store.put(b"z" * 400_000)
    assert len(_files(small_disk)) == 3
    assert all(store.get(sha256) for sha256 in kept)
    store.delete(kept[0])
    store.put(b"z" * 300_000)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageUnavailable) as caught:
        ArtifactStore(tmp_path / "file" / "artifacts")
    assert str(tmp_path / "file") in str(caught.value)
    with pytest.raises(StorageUnavailable):
        ArtifactStore("nosuchthing://bucket")


def test_many_may_store_the_same_bytes_at_once(place: Place) -> None:
    store = ArtifactStore(place.url)
    data = b"d" * 300_000
    [sha256] = {str(outcome) for outcome in together(8, lambda _: store.put(data))}
    assert place.files() == [place.name(sha256)]


def test_many_threads_may_read_at_once(place: Place) -> None:
    store = ArtifactStore(place.url)
    shas = [store.put(bytes([number]) * 10_000) for number in range(5)]
    read = together(20, lambda index: store.get(shas[index % 5]))
    assert read == [bytes([number % 5]) * 10_000 for number in range(20)]


def test_what_is_asked_of_many_comes_in_order(place: Place) -> None:
    store = ArtifactStore(place.url)
    many = [bytes([number]) for number in range(20)]
    shas = store.each(store.put, many)
    assert shas == [hashlib.sha256(data).hexdigest() for data in many]
    assert store.each(store.exists, [*shas, "a" * 64]) == [True] * 20 + [False]
    store.delete(shas[7])
    with pytest.raises(ArtifactMissing) as caught:
        store.each(store.get, shas)
    assert caught.value.key == shas[7]


@pytest.mark.parametrize("place", ["bucket"], indirect=True)
def test_a_bucket_is_asked_several_at_a_time(place: Place) -> None:
    """Or a request with many images would take its many round trips one after another."""
    everybody = threading.Barrier(ASKED_AT_ONCE, timeout=10)
    store = ArtifactStore(place.url)
    asked = store.each(lambda _: everybody.wait() is not None, range(ASKED_AT_ONCE))
    assert asked == [True] * ASKED_AT_ONCE


def test_a_forked_process_reads_too(place: Place) -> None:
    store = ArtifactStore(place.url)
    sha256 = store.put(b"some bytes")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if store.get(sha256) == b"some bytes" else 3)
        finally:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert store.get(sha256) == b"some bytes"


def test_a_file_must_be_stored_before_a_row_names_it(memory: Memory) -> None:
    with pytest.raises(ArtifactMissing), memory.writing() as session:
        keep_artifact(session, memory.store, "b" * 64, size=1, media_type="image/png", now=NOON)


def test_every_column_that_points_at_a_file_keeps_it() -> None:
    pointing = {
        str(column)
        for table in Row.metadata.tables.values()
        for column in table.columns
        if any(key.column is Artifact.__table__.c.sha256 for key in column.foreign_keys)
    }
    assert {str(column.property.columns[0]) for column in NAMED_BY} == pointing


def test_a_file_is_released_only_when_no_row_names_it(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    with memory.writing() as session:
        kept = memory.keep(session, b"two")
        unnamed = memory.keep(session, b"three")
        keep_predictions(session, [NewPrediction("e" * 32, kept, 0, None, [], [], 3)], now=NOON)
    one = hashlib.sha256(b"one").hexdigest()
    base = hashlib.sha256(b"the empty adapter").hexdigest()
    with memory.writing() as session:
        released = release_artifacts(session, memory.store, [one, kept, unnamed, base])
    assert released == [unnamed]
    assert not memory.store.exists(unnamed)
    assert all(memory.store.exists(sha256) for sha256 in (one, kept, base))
    with memory.reading() as session:
        row = get_artifact(session, kept)
        assert (row.bytes, row.media_type) == (3, "image/png")
        with pytest.raises(ArtifactMissing):
            get_artifact(session, unnamed)


def test_files_that_no_row_names_are_found_in_order(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    with memory.writing() as session:
        put_label_set(session, "pets", ["cat"], now=NOON)
        put_control_set(session, "control", label_set="pets", now=NOON)
        control = NewControlImage(memory.keep(session, b"control"))
        add_control_images(session, "control", [control])
        predicted = memory.keep(session, b"predicted")
        new = NewPrediction("e" * 32, predicted, 0, None, [], [], 3)
        keep_predictions(session, [new], now=NOON)
        unnamed = sorted(memory.keep(session, bytes([number])) for number in range(5))
    with memory.reading() as session:
        assert unnamed_artifacts(session) == (unnamed, None)
        assert unnamed_artifacts(session, after=unnamed[1]) == (unnamed[2:], None)


def test_a_look_at_the_next_files_tells_where_to_go_on(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    with memory.writing() as session:
        unnamed = {memory.keep(session, bytes([number])) for number in range(5)}
    with memory.reading() as session:
        on_record = sorted(session.scalars(select(Artifact.sha256)))
        found: list[str] = []
        looked_at: list[str] = []
        after: str | None = ""
        while after is not None:
            some, after = unnamed_artifacts(session, after=after, limit=3)
            found += some
            looked_at += [after] if after else []
    assert looked_at == [on_record[2], on_record[5]]
    assert found == sorted(unnamed)


def test_more_files_can_be_released_than_a_statement_has_parameters(memory: Memory) -> None:
    with memory.writing() as session:
        unnamed = memory.keep(session, b"one")
    with memory.writing() as session:
        many = [unnamed, *(f"{number:064x}" for number in range(300_000))]
        assert release_artifacts(session, memory.store, many) == [unnamed]
    assert not memory.store.exists(unnamed)


def test_files_that_were_never_kept_can_be_discarded(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    kept = hashlib.sha256(b"one").hexdigest()
    stray = memory.store.put(b"put before a transaction that was refused")
    with memory.writing() as session:
        discard_unkept(session, memory.store, [kept, stray, "c" * 64])
    assert memory.store.exists(kept)
    assert not memory.store.exists(stray)


def test_an_image_is_never_removed_between_being_found_and_being_named(memory: Memory) -> None:
    """Releases race with submissions of the same images: every accepted one can be read."""
    images = [f"image {number}" for number in range(12)]
    with memory.writing() as session:
        hashes = [memory.keep(session, image.encode()) for image in images]

    def act(index: int) -> None:
        if index % 2:
            for sha256 in hashes:
                with memory.writing() as session:
                    release_artifacts(session, memory.store, [sha256])
        else:
            for image in images:
                try:
                    memory.submit({image: "cat"})
                except ArtifactMissing:
                    memory.submit({image: "cat"})

    assert together(4, act) == [None] * 4
    assert all(memory.store.get(sha256) for sha256 in hashes)


def _submit_until_it_fails(memory: Memory) -> None:
    for number in range(500):
        memory.submit({f"{number} {index}": "cat" for index in range(60)})


def test_a_database_on_a_full_disk_refuses_the_submission_whole(small_disk: Path) -> None:
    """Nothing of the refused one stays; with room again, all goes on."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * 400_000)
    with sqlite_memory(small_disk) as memory:
        first = memory.submit({"first": "cat"})
        with pytest.raises(StorageFull) as caught:
            _submit_until_it_fails(memory)
        assert "no room" in str(caught.value)
        ballast.unlink()
        with memory.reading() as session:
            accepted = len(list_corrections(session, limit=500).items)
        assert (accepted - 1) % 60 == 0
        assert memory.submit({"first": "cat"}).corrections[0].id == first.corrections[0].id
        assert memory.submit({"new": "cat"}).corrections[0].status == "accepted"
