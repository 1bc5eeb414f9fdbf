"""Files without a row are removed when they are old, and never when a row names them."""

from __future__ import annotations

import hashlib
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.artifacts import release_artifacts
from registry.errors import ArtifactMissing
from registry.found_file import FoundFile
from registry.strays import FOLDERS, remove_strays, stray_files
from tests.support.database import Memory, opened_memory, together
from tests.support.places import Place

HOUR = timedelta(hours=1)
IMAGES = [f"image {number}" for number in range(10)]


def collect(memory: Memory, *, older_than: timedelta = -HOUR) -> list[FoundFile]:
    """What a whole round removes."""
    removed = []
    for folder in memory.store.folders():
        with memory.reading() as session:
            now = datetime.now(UTC)
            strays = stray_files(session, memory.store, folder, now=now, older_than=older_than)
        with memory.writing() as session:
            removed += remove_strays(session, memory.store, strays)
    return removed


def test_only_files_without_a_row_are_removed(memory: Memory) -> None:
    memory.submit({"one": "cat"})
    with memory.writing() as session:
        unnamed = memory.keep(session, b"on record, though nothing names it")
    stray = memory.store.put(b"put, and then the process died")
    assert [file.name for file in collect(memory)] == [f"{stray[:2]}/{stray}"]
    assert not memory.store.exists(stray)
    assert memory.store.exists(unnamed)
    assert memory.store.exists(hashlib.sha256(b"one").hexdigest())
    assert collect(memory) == []


def test_a_file_is_left_alone_until_it_is_old(memory: Memory) -> None:
    stray = memory.store.put(b"about to be named")
    assert collect(memory, older_than=HOUR) == []
    path = Path(memory.store.url) / stray[:2] / stray
    os.utime(path, (0, 0))
    memory.store.put(b"about to be named")
    assert collect(memory, older_than=HOUR) == []
    os.utime(path, (0, 0))
    [removed] = collect(memory, older_than=HOUR)
    assert removed.modified == datetime(1970, 1, 1, tzinfo=UTC)
    assert removed.bytes == len(b"about to be named")


def test_what_a_crash_left_half_written_goes_and_what_is_not_ours_stays(memory: Memory) -> None:
    root = Path(memory.store.url)
    half = root / "incoming" / f"{'a' * 64}.{'b' * 32}"
    half.write_bytes(b"half")
    assert collect(memory) == []  # it may be being written
    os.utime(half, (0, 0))
    (root / "ab").mkdir(exist_ok=True)
    strangers = [root / "ab" / "notes.txt", root / "ab" / ("c" * 64), root / "lost+found" / "1"]
    for stranger in strangers:
        stranger.parent.mkdir(exist_ok=True)
        stranger.write_text("mine")
    assert [file.name for file in collect(memory)] == [f"incoming/{half.name}"]
    assert all(stranger.exists() for stranger in strangers)


def test_the_folders_are_those_that_files_stand_in(memory: Memory) -> None:
    for number in range(40):
        memory.store.put(bytes([number]))
    assert len(FOLDERS) == 257
    assert set(memory.store.folders()) <= set(FOLDERS)


def test_nothing_is_removed_while_the_store_is_held(memory: Memory) -> None:
    with memory.writing() as session:
        unnamed = memory.keep(session, b"on record, though nothing names it")
    memory.store.put(b"stray")
    memory.store.set_holds({"somebody": datetime.now(UTC) + timedelta(hours=1)})
    assert collect(memory) == []
    with memory.writing() as session:
        assert release_artifacts(session, memory.store, [unnamed]) == []
    memory.store.set_holds({"somebody": datetime.now(UTC) - timedelta(seconds=1)})
    assert len(collect(memory)) == 1
    with memory.writing() as session:
        assert release_artifacts(session, memory.store, [unnamed]) == [unnamed]


def race(memory: Memory) -> None:
    """Files are put and named while others remove whatever has no row, however young."""
    assert collect(memory) == []
    removed: list[FoundFile] = []

    def act(index: int) -> None:
        if index % 2:
            for _ in range(8):
                removed.extend(collect(memory))
            return
        for image in IMAGES:
            memory.store.put(f"{index} {image} is never named".encode())
            for _ in range(50):
                try:
                    memory.submit({f"{index} {image}": "cat"})
                except ArtifactMissing:  # removed before it was named: put once more
                    continue
                break

    assert together(4, act) == [None] * 4
    named = {f"{index} {image}" for index in (0, 2) for image in IMAGES}
    for image in named:
        assert memory.store.get(hashlib.sha256(image.encode()).hexdigest()) == image.encode()
    collect(memory)
    assert (
        len([name for folder in memory.store.folders() for name in memory.store.files(folder)])
        == len(named) + 1
    )  # and version 0


def test_a_file_is_never_removed_between_being_found_and_being_named(memory: Memory) -> None:
    race(memory)


@pytest.mark.parametrize("place", ["bucket"], indirect=True)
def test_nor_in_a_bucket(place: Place, tmp_path: Path, migrated_file: Path) -> None:
    shutil.copyfile(migrated_file, tmp_path / "emend.db")
    with opened_memory(f"sqlite:///{tmp_path / 'emend.db'}", place.url) as memory:
        memory.ensure_base()
        race(memory)
