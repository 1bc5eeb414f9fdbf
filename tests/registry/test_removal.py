"""Files go several at a time: all writers wait for whoever removes them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.artifacts import ASKED_AT_ONCE, discard_unkept, release_artifacts
from registry.found_file import FoundFile
from registry.remote_folder import RemoteFolder
from registry.strays import remove_strays
from tests.support.database import Memory, opened_memory

FILES = [bytes([number]) for number in range(ASKED_AT_ONCE)]


@pytest.fixture
def memory(
    tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Memory]:
    """A remote store that removes a file only once so many are asked for at the same time."""
    shutil.copyfile(migrated_file, tmp_path / "emend.db")
    everybody = threading.Barrier(ASKED_AT_ONCE, timeout=10)
    remove = RemoteFolder.remove

    def remove_together(folder: RemoteFolder, name: str) -> None:
        everybody.wait()
        remove(folder, name)

    monkeypatch.setattr(RemoteFolder, "remove", remove_together)
    with opened_memory(f"sqlite:///{tmp_path / 'emend.db'}", f"memory://{tmp_path}") as memory:
        memory.ensure_base()
        yield memory


def test_what_is_released_goes_several_at_a_time(memory: Memory) -> None:
    with memory.writing() as session:
        unnamed = sorted(memory.keep(session, data) for data in FILES)
    with memory.writing() as session:
        assert release_artifacts(session, memory.store, unnamed) == unnamed
    assert not any(map(memory.store.exists, unnamed))


def discard(memory: Memory, stray: list[str]) -> None:
    with memory.writing() as session:
        discard_unkept(session, memory.store, stray)


def remove(memory: Memory, stray: list[str]) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    files = [FoundFile(f"{sha256[:2]}/{sha256}", 1, long_ago) for sha256 in stray]
    with memory.writing() as session:
        assert len(remove_strays(session, memory.store, files)) == len(stray)


@pytest.mark.parametrize("let_go", [discard, remove])
def test_so_does_what_was_never_kept(
    memory: Memory, let_go: Callable[[Memory, list[str]], None]
) -> None:
    with memory.writing() as session:
        kept = memory.keep(session, b"kept")
    stray = [memory.store.put(data) for data in FILES]
    let_go(memory, stray)
    assert not any(map(memory.store.exists, stray))
    assert memory.store.exists(kept)
