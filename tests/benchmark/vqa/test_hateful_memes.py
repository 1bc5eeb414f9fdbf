"""Hateful Memes' published layout, in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.datasets.missing import SetMalformed, SetMissing
from benchmark.vqa.hateful_memes import HATEFUL, load_hateful_memes

ENTRIES: list[dict[str, Any]] = [
    {"id": 42953, "img": "img/42953.png", "label": 0, "text": "its their character"},
    {"id": 3745, "img": "img/03745.png", "label": 1, "text": 'they "said" so'},
]


def write(root: Path, split: str, entries: list[dict[str, Any]]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{split}.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in entries))
    (root / "img").mkdir(exist_ok=True)
    for each in ENTRIES:
        (root / each["img"]).write_bytes(each["text"].encode())
    return path


@pytest.mark.parametrize("split", ["train", "dev", "dev_seen", "test_unseen"])
@pytest.mark.parametrize("folder", ["", "data"])
def test_memes_are_asked_with_their_text(tmp_path: Path, split: str, folder: str) -> None:
    write(tmp_path / folder, split, ENTRIES)
    harmless, hateful = load_hateful_memes(tmp_path, split)
    assert (harmless.options[harmless.answer], hateful.options[hateful.answer]) == ("no", "yes")
    assert hateful.answer == HATEFUL
    assert 'they "said" so' in hateful.question
    assert hateful.image_bytes() == b'they "said" so'
    assert [harmless.key, hateful.key] == ["42953", "3745"]


def test_a_missing_split_names_every_place(tmp_path: Path) -> None:
    with pytest.raises(SetMissing) as missing:
        load_hateful_memes(tmp_path, "dev")
    assert missing.value.looked == (tmp_path / "dev.jsonl", tmp_path / "data" / "dev.jsonl")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, "dev", [{**ENTRIES[0], "img": "img/1.png"}])
    with pytest.raises(SetMissing) as missing:
        load_hateful_memes(tmp_path, "dev")
    assert str(tmp_path / "img" / "1.png") in str(missing.value)


def test_a_blind_test_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "test", [{key: ENTRIES[0][key] for key in ("id", "img", "text")}])
    with pytest.raises(SetMalformed, match="no label"):
        load_hateful_memes(tmp_path, "test")


def test_a_wrong_label_is_named(tmp_path: Path) -> None:
    write(tmp_path, "dev", [ENTRIES[0], {**ENTRIES[1], "label": 2}])
    with pytest.raises(SetMalformed, match="line 2: 'label' is 2"):
        load_hateful_memes(tmp_path, "dev")
