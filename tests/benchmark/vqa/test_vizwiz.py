"""VizWiz VQA's published layout, in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.datasets.missing import SetMalformed, SetMissing
from benchmark.vqa.questions import TooFewLabels
from benchmark.vqa.vizwiz import as_choices, load_vizwiz


def entry(number: int, answers: list[str]) -> dict[str, Any]:
    return {
        "image": f"VizWiz_val_{number:012}.jpg",
        "question": f"What is number {number}?",
        "answers": [{"answer_confidence": "yes", "answer": answer} for answer in answers],
        "answer_type": "other",
        "answerable": 1,
    }


def six_of(word: str) -> list[str]:
    return [word] * 6 + ["unsuitable"] * 4


ENTRIES = [
    entry(number, six_of(word))
    for number, word in enumerate(["A Can.", "soup", "red", "two", "dollar", "cat", "dog"])
]


def write(root: Path, split: str, entries: Any, *, images: str = "{split}") -> Path:
    path = root / "Annotations" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    folder = root / images.format(split=split)
    folder.mkdir(parents=True, exist_ok=True)
    for each in ENTRIES:
        (folder / each["image"]).write_bytes(each["image"].encode())
    return path


@pytest.mark.parametrize("images", ["{split}", "Images/{split}", "Images"])
def test_questions_come_with_ten_answers(tmp_path: Path, images: str) -> None:
    write(tmp_path, "val", ENTRIES, images=images)
    questions = load_vizwiz(tmp_path, "val")
    assert [each.question for each in questions] == [each["question"] for each in ENTRIES]
    assert questions[1].answers == ("soup",) * 6 + ("unsuitable",) * 4
    assert questions[0].image.read_bytes() == b"VizWiz_val_000000000000.jpg"
    assert questions[0].majority() == "can"
    assert questions[3].majority() == "2"


def test_the_test_split_has_no_answers(tmp_path: Path) -> None:
    hidden = [{key: each[key] for key in ("image", "question")} for each in ENTRIES]
    write(tmp_path, "test", hidden)
    questions = load_vizwiz(tmp_path, "test")
    assert all(each.answers == () for each in questions)
    assert as_choices(questions, seed=0) == []


def test_as_five_options(tmp_path: Path) -> None:
    write(tmp_path, "val", ENTRIES)
    asked = as_choices(load_vizwiz(tmp_path, "val"), seed=0)
    assert len(asked) == len(ENTRIES)
    for question in asked:
        assert len(set(question.options)) == 5
        assert "unsuitable" not in question.options
    assert asked[0].options[asked[0].answer] == "can"
    assert asked == as_choices(load_vizwiz(tmp_path, "val"), seed=0)


def test_what_anybody_answered_is_no_distractor(tmp_path: Path) -> None:
    both = ["soup"] * 6 + ["the can"] * 4  # "can" is what most people answered to another question
    write(tmp_path, "val", [ENTRIES[0], entry(1, both), *ENTRIES[2:]])
    asked = as_choices(load_vizwiz(tmp_path, "val"), seed=3)
    assert "can" not in asked[1].options


def test_too_few_answers_make_no_options(tmp_path: Path) -> None:
    write(tmp_path, "val", ENTRIES[:3])
    with pytest.raises(TooFewLabels):
        as_choices(load_vizwiz(tmp_path, "val"), seed=0)


def test_a_missing_split_names_every_place(tmp_path: Path) -> None:
    with pytest.raises(SetMissing) as missing:
        load_vizwiz(tmp_path, "train")
    assert "the train annotations" in str(missing.value)
    assert str(tmp_path / "Annotations" / "train.json") in str(missing.value)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, "val", [entry(99, six_of("cup"))])
    with pytest.raises(SetMissing, match=r"VizWiz_val_000000000099\.jpg") as missing:
        load_vizwiz(tmp_path, "val")
    assert tmp_path / "val" / "VizWiz_val_000000000099.jpg" in missing.value.looked


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"annotations": []}, "not a list"),
        ([3], "entry 1: it is not an object"),
        ([entry(0, ["cup"] * 9)], "entry 1: 'answers' is no list of 10"),
        ([{**entry(0, []), "answers": ["cup"] * 10}], "entry 1: an answer is not an object"),
        ([{**entry(0, []), "answers": [{}] * 10}], "entry 1: 'answer' is None"),
        ([{**entry(0, six_of("cup")), "question": 3}], "entry 1: 'question' is 3"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: Any, told: str) -> None:
    write(tmp_path, "val", content)
    with pytest.raises(SetMalformed) as damage:
        load_vizwiz(tmp_path, "val")
    assert told in str(damage.value)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    write(tmp_path, "val", []).write_text("[")
    with pytest.raises(SetMalformed, match="not JSON"):
        load_vizwiz(tmp_path, "val")
