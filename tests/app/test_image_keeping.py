"""Many images in a remote store: their number is no reason to fail, nor to make others wait."""

from __future__ import annotations

import contextvars
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app import image_keeping
from app.image_keeping import write_with_images
from registry.artifacts import ASKED_AT_ONCE, ArtifactStore, discard_unkept, get_artifact
from registry.batches import AT_ONCE
from registry.patience import Clock, seconds_left, set_clock
from registry.remote_folder import RemoteFolder
from tests.support.database import Memory, opened_memory
from tests.support.service import picture

IMAGES = [picture(1) + bytes([number]) for number in range(AT_ONCE + 20)]
DIGESTS = [hashlib.sha256(image).hexdigest() for image in IMAGES]


@pytest.fixture
def memory(tmp_path: Path, migrated_file: Path) -> Iterator[Memory]:
    shutil.copyfile(migrated_file, tmp_path / "emend.db")
    with opened_memory(f"sqlite:///{tmp_path / 'emend.db'}", f"memory://{tmp_path}") as memory:
        yield memory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that the store was asked for."""
    names: list[str] = []
    size = RemoteFolder.size

    def asked_size(folder: RemoteFolder, name: str) -> int | None:
        names.append(name)
        return size(folder, name)

    monkeypatch.setattr(RemoteFolder, "size", asked_size)
    return names


def write(memory: Memory, do: Callable[[Session, list[str]], object], count: int) -> None:
    write_with_images(memory.engine, memory.store, IMAGES[:count], do)
    with memory.reading() as session:
        assert all(get_artifact(session, digest).bytes for digest in DIGESTS[:count])


def test_of_many_none_is_removed_and_none_asked_for(
    memory: Memory, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = image_keeping._put

    def put_and_lose(store: ArtifactStore, images: Sequence[bytes]) -> None:
        put(store, images)
        with memory.writing() as session:  # another request with the same images was refused
            discard_unkept(session, store, DIGESTS)

    monkeypatch.setattr(image_keeping, "_put", put_and_lose)
    write(memory, lambda *_: None, len(IMAGES))
    assert asked == []
    assert all(memory.store.get(digest) for digest in DIGESTS)
    assert memory.store.holds() == {}


def test_few_are_asked_for_and_nothing_is_held(memory: Memory, asked: list[str]) -> None:
    held: list[bool] = []
    write(memory, lambda *_: held.append(memory.store.is_held()), AT_ONCE)
    assert held == [False]
    assert len(asked) == AT_ONCE


def test_a_hold_that_did_not_last_is_no_proof(
    memory: Memory, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_keeping, "HOLD", timedelta(0))
    write(memory, lambda *_: None, len(IMAGES))
    assert len(asked) == len(IMAGES)


def test_a_refusal_ends_the_hold_and_leaves_no_file(memory: Memory) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        write(memory, refuse, len(IMAGES))
    assert memory.store.holds() == {}
    assert not any(memory.store.each(memory.store.exists, DIGESTS))


def test_each_image_has_its_time(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as eight at once cannot put within the time of one request."""
    put_file, seconds = RemoteFolder.write, 0.05
    monkeypatch.setattr(
        RemoteFolder, "write", lambda *arguments: (time.sleep(seconds), put_file(*arguments))
    )
    count = 12 * ASKED_AT_ONCE
    left: list[float | None] = []

    def within_a_clock() -> None:
        set_clock(Clock(6 * seconds))
        write(memory, lambda *_: left.append(seconds_left()), count)

    contextvars.copy_context().run(within_a_clock)
    [after] = left
    assert after is not None
    assert after > 0


def test_time_that_is_over_does_not_come_back(memory: Memory) -> None:
    left: list[float | None] = []

    def within_a_clock() -> None:
        set_clock(Clock(0.0))
        write(memory, lambda *_: left.append(seconds_left()), 1)

    contextvars.copy_context().run(within_a_clock)
    [after] = left
    assert after is not None
    assert after < 0
