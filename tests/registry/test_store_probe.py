from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from registry.artifacts import ArtifactStore
from registry.errors import StorageUnavailable
from registry.store_probe import check_store


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    check_store(ArtifactStore(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (tmp_path / "incoming").write_text("in the way, for root too")
    with pytest.raises(StorageUnavailable, match=str(tmp_path)):
        check_store(store)


def test_a_full_disk_keeps_nothing_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    check_store(ArtifactStore(tmp_path))
    assert "nothing can be stored" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
