"""VSR's published layout, in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.datasets.missing import SetMalformed, SetMissing
from benchmark.vqa.vsr import by_relation, load_vsr

ENTRIES: list[dict[str, Any]] = [
    {
        "image": "000000085637.jpg",
        "image_link": "train2017/000000085637.jpg",
        "caption": "The potted plant is at the right side of the bench.",
        "label": 1,
        "relation": "at the right side of",
        "annotator_id": 31,
        "vote_true_validator_id": [2, 6],
        "vote_false_validator_id": [],
    },
    {
        "image": "000000000002.jpg",
        "image_link": "val2017/000000000002.jpg",
        "caption": "The cat is under the car.",
        "label": 0,
        "relation": "under",
        "annotator_id": 2,
        "vote_true_validator_id": [],
        "vote_false_validator_id": [1],
    },
]


def write(root: Path, file: str, entries: list[dict[str, Any]]) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in entries) + "\n")
    return path


def with_images(root: Path, folder: str = "images") -> None:
    for entry in ENTRIES:
        path = root / folder / entry["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry["image"].encode())


@pytest.mark.parametrize("file", ["splits/random/dev.jsonl", "data/splits/random/dev.jsonl"])
@pytest.mark.parametrize("folder", ["images", "data/images", "trainval2017"])
def test_statements_are_true_or_false(tmp_path: Path, file: str, folder: str) -> None:
    write(tmp_path, file, ENTRIES)
    with_images(tmp_path, folder)
    first, second = load_vsr(tmp_path, cut="random", split="dev")
    assert first.question.options == ("true", "false")
    assert (first.question.answer, second.question.answer) == (0, 1)
    assert "The potted plant is at the right side of the bench." in first.question.question
    assert first.question.image_bytes() == b"000000085637.jpg"
    assert [first.relation, second.relation] == ["at the right side of", "under"]
    assert first.question.key != second.question.key


def test_the_two_cuts_are_different_files(tmp_path: Path) -> None:
    write(tmp_path, "splits/random/test.jsonl", ENTRIES)
    write(tmp_path, "splits/zeroshot/test.jsonl", ENTRIES[:1])
    with_images(tmp_path)
    assert len(load_vsr(tmp_path, cut="random", split="test")) == 2
    assert len(load_vsr(tmp_path, cut="zeroshot", split="test")) == 1


def test_right_answers_by_relation(tmp_path: Path) -> None:
    write(tmp_path, "splits/random/test.jsonl", [*ENTRIES, ENTRIES[1]])
    with_images(tmp_path)
    statements = load_vsr(tmp_path, cut="random", split="test")
    assert by_relation(statements, [0, 1, 0]) == {"at the right side of": 100, "under": 50}


def test_a_missing_split_names_every_place(tmp_path: Path) -> None:
    with pytest.raises(SetMissing) as missing:
        load_vsr(tmp_path, cut="zeroshot", split="train")
    told = str(missing.value)
    assert "VSR: the zeroshot train split is missing" in told
    assert str(tmp_path / "splits" / "zeroshot" / "train.jsonl") in told
    assert str(tmp_path / "data" / "splits" / "zeroshot" / "train.jsonl") in told


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, "splits/random/dev.jsonl", ENTRIES)
    with pytest.raises(SetMissing) as missing:
        load_vsr(tmp_path, cut="random", split="dev")
    assert "000000085637.jpg" in str(missing.value)
    assert tmp_path / "images" / "000000085637.jpg" in missing.value.looked


@pytest.mark.parametrize(
    ("change", "told"),
    [({"label": "yes"}, "'label' is 'yes'"), ({"caption": None}, "'caption' is None")],
)
def test_a_damaged_entry_is_named_by_line(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    path = write(tmp_path, "splits/random/dev.jsonl", [ENTRIES[0], {**ENTRIES[1], **change}])
    with_images(tmp_path)
    with pytest.raises(SetMalformed) as damage:
        load_vsr(tmp_path, cut="random", split="dev")
    assert str(damage.value).startswith(f"{path}, line 2: {told}")


@pytest.mark.parametrize("line", ["{", "[1]"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "splits/random/dev.jsonl", [])
    path.write_text(line)
    with pytest.raises(SetMalformed, match="line 1"):
        load_vsr(tmp_path, cut="random", split="dev")
