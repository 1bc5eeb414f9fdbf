from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark import random_vlm, vqa_speed
from encoder.vlm.model import VisionLanguageModel
from tests.support.tiny_encoder import tiny_encoder


def test_ways_to_score_options_agree_and_are_held_against_the_prompt(
    tiny_vlm: VisionLanguageModel,
) -> None:
    (asked,) = vqa_speed.some_questions(1, vqa_speed.OPTIONS, side=28, seed=0)
    assert sorted(asked.options) == sorted(vqa_speed.OPTIONS)
    found = vqa_speed.cost_of_options(tiny_vlm, tiny_encoder(), asked, turns=2)
    assert found["largest_difference_nats"] < 1e-3
    assert found["image_tokens"] == 4
    expected = [len(tiny_vlm.answer_ids(option)) + 1 for option in asked.options]
    assert found["option_tokens"] == expected
    for ratios in (found["passes_of_the_prompt"], found["passes_of_tower_and_prompt"]):
        assert ratios["separate"] > ratios["together"] > 0


def test_ratios_are_of_the_same_turn_with_and_without_the_tower() -> None:
    seconds = {
        "tower": [2.0, 2.0, 20.0],
        "prompt": [2.0, 1.0, 10.0],
        "together": [3.0, 1.1, 12.0],
        "separate": [12.0, 6.0, 55.0],
    }
    assert vqa_speed._ratios(seconds, tower=False) == {"together": 1.2, "separate": 6.0}
    assert vqa_speed._ratios(seconds, tower=True) == {"together": 1.067, "separate": 2.667}


def test_answers_a_second_asks_every_question(
    tiny_vlm: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    whole = vqa_speed.answer_questions

    def counted(*given: object, **named: object) -> object:
        questions = given[1]
        assert isinstance(questions, list)
        batches.append(len(questions))
        return whole(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(vqa_speed, "answer_questions", counted)
    asked = vqa_speed.some_questions(5, (), side=28, seed=0)
    assert vqa_speed.answers_a_second(tiny_vlm, tiny_encoder(), asked, together=2) > 0
    assert batches == [2, 2, 1]


def test_the_command_measures_the_random_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"SIDE": 28, "TOWER_WIDTH": 64, "TOWER_BLOCKS": 2, "WIDTH": 64, "BLOCKS": 1}
    for name, size in small.items():
        monkeypatch.setattr(random_vlm, name, size)
    size = ["--turns", "1", "--questions", "2", "--together", "2"]
    (tmp_path / "vqa_speed.json").write_text('{"other fp32": {}}')
    vqa_speed.main(["--models", "random", "--precisions", "fp32", *size, "--out", str(tmp_path)])
    result = json.loads((tmp_path / "vqa_speed.json").read_text())
    assert set(result) == {"other fp32", "random fp32"}
    model = result["random fp32"]
    assert model["five_options"]["image_tokens"] == 4
    # A word is a token: none of them is unknown.
    assert model["five_options"]["option_tokens"] == [
        len(option.split()) + 1
        for option in vqa_speed.some_questions(1, vqa_speed.OPTIONS, side=28, seed=1)[0].options
    ]
    for mode in ("answers_by_option", "answers_in_words"):
        assert model[mode]["answers_a_second"] > 0
