"""The demo's pictures: disjoint parts, and a clear sentence about a folder that cannot serve."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from demo.photos import UnusableFolder, control_crops, digits, folder

UNREADABLE = Path("/proc/self/mem")  # for root too


def _fill(root: Path, label: str, count: int) -> None:
    (root / label).mkdir()
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / label / f"{number}.png")


def test_digits_are_balanced_and_no_picture_is_in_both_parts() -> None:
    material = digits(seed=0)
    assert set(Counter(material.corrections.labels).values()) == {10}
    assert set(Counter(material.held_out.labels).values()) == {30}
    assert not set(material.corrections.images) & set(material.held_out.images)


def test_photographs_sent_and_never_sent_are_cut_from_different_ones() -> None:
    sent, unseen = control_crops(seed=0)
    assert (len(sent), len(unseen)) == (120, 40)
    assert not set(sent) & set(unseen)
    assert control_crops(seed=0) == (sent, unseen)


def test_a_folder_is_split_into_corrections_and_held_out(tmp_path: Path) -> None:
    _fill(tmp_path, "cup", 4)
    _fill(tmp_path, "hat", 30)
    material = folder(tmp_path, seed=0)
    assert Counter(material.corrections.labels) == {"cup": 2, "hat": 10}
    assert Counter(material.held_out.labels) == {"cup": 2, "hat": 20}


def test_of_a_large_folder_only_what_is_drawn_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path, "cup", 60)
    _fill(tmp_path, "hat", 4)
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def watched(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    material = folder(tmp_path, seed=0)
    assert Counter(path.parent.name for path in read) == {"cup": 40, "hat": 4}
    assert len(material.corrections.images + material.held_out.images) == 44


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableFolder, match="nowhere"):
        folder(tmp_path / "nowhere", seed=0)


@pytest.mark.skipif(not UNREADABLE.exists(), reason="no file here that refuses to be read")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    _fill(tmp_path, "cup", 4)
    _fill(tmp_path, "hat", 4)
    (tmp_path / "cup" / "9.png").symlink_to(UNREADABLE)
    with pytest.raises(UnusableFolder, match=f"'{tmp_path}' cannot be read: "):
        folder(tmp_path, seed=0)


def test_one_label_is_not_enough(tmp_path: Path) -> None:
    _fill(tmp_path, "cup", 4)
    with pytest.raises(UnusableFolder, match="two labels at least"):
        folder(tmp_path, seed=0)


def test_a_label_with_one_picture_is_named(tmp_path: Path) -> None:
    _fill(tmp_path, "cup", 1)
    _fill(tmp_path, "hat", 4)
    with pytest.raises(UnusableFolder, match="cup"):
        folder(tmp_path, seed=0)
