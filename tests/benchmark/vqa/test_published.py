"""The published sets in miniature, asked of a tiny VLM."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmark.vqa import published
from benchmark.vqa.published import ask_hateful_memes, ask_vizwiz, ask_vsr
from encoder.clip import Encoder, load_encoder
from encoder.vlm.answering import Question, answer_questions
from encoder.vlm.model import VisionLanguageModel
from tests.support.tiny_encoder import random_pixels, tiny_encoder, tiny_folder
from tests.support.tiny_vlm import tiny_vlm_folder

WORDS = ("can", "soup", "red", "two", "dollar", "cat")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return tiny_encoder()


def photo(number: int) -> bytes:
    pixels = random_pixels(1, seed=number)[0].permute(1, 2, 0).numpy()
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def vsr(root: Path, labels: list[int]) -> None:
    lines = []
    for number, label in enumerate(labels):
        write(root / "images" / f"{number}.jpg", photo(number))
        entry = {"image": f"{number}.jpg", "caption": f"Thing {number}.", "label": label}
        lines.append(json.dumps({**entry, "relation": "under"}))
    write(root / "splits" / "zeroshot" / "test.jsonl", "\n".join(lines))


def memes(root: Path, labels: list[int]) -> None:
    lines = []
    for number, label in enumerate(labels):
        write(root / "img" / f"{number}.png", photo(number))
        entry = {"id": number, "img": f"img/{number}.png", "label": label, "text": "so it is"}
        lines.append(json.dumps(entry))
    write(root / "dev.jsonl", "\n".join(lines))


def vizwiz(root: Path) -> None:
    entries = []
    for number, word in enumerate(WORDS):
        write(root / "val" / f"{number}.jpg", photo(number))
        given = [{"answer": word, "answer_confidence": "yes"}] * 10
        question = f"What is number {number}?"
        entries.append({"image": f"{number}.jpg", "question": question, "answers": given})
    write(root / "Annotations" / "val.json", json.dumps(entries))


def test_vsr_counts_right_answers(
    tiny_vlm: VisionLanguageModel, encoder: Encoder, tmp_path: Path
) -> None:
    labels = [0, 1, 1, 0, 1, 1]
    vsr(tmp_path, labels)
    found = ask_vsr(tiny_vlm, encoder, tmp_path, split="test", cut="zeroshot")
    vsr(tmp_path, [1 - label for label in labels])
    contrary = ask_vsr(tiny_vlm, encoder, tmp_path, split="test", cut="zeroshot")
    assert found["questions"] == 6
    assert found["accuracy"] + contrary["accuracy"] == pytest.approx(100)


def test_hateful_memes_rank_by_how_likely_yes_is(
    tiny_vlm: VisionLanguageModel, encoder: Encoder, tmp_path: Path
) -> None:
    labels = [0, 1, 1, 0, 0]
    memes(tmp_path, labels)
    found = ask_hateful_memes(tiny_vlm, encoder, tmp_path, split="dev")
    memes(tmp_path, [1 - label for label in labels])
    contrary = ask_hateful_memes(tiny_vlm, encoder, tmp_path, split="dev")
    assert found["auroc"] + contrary["auroc"] == pytest.approx(100)
    assert found["auroc"] / 100 * 6 == pytest.approx(round(found["auroc"] / 100 * 6))  # 2 x 3 pairs


def test_vizwiz_scores_free_answers_officially(
    tiny_vlm: VisionLanguageModel, encoder: Encoder, tmp_path: Path
) -> None:
    vizwiz(tmp_path)
    found = ask_vizwiz(tiny_vlm, encoder, tmp_path, split="val", seed=0)
    assert found["score"] == 0  # noise says none of these words
    # Once the people say what the model says, they agree.
    tokens = tiny_vlm.image_tokens(encoder, random_pixels(1, seed=0))
    [reply] = answer_questions(tiny_vlm, [Question("What is number 0?", tokens[0])])
    path = tmp_path / "Annotations" / "val.json"
    entries = json.loads(path.read_text())
    entries[0]["answers"] = [{"answer": reply.answer}] * 2 + entries[0]["answers"][:8]
    path.write_text(json.dumps(entries))
    agreeing = ask_vizwiz(tiny_vlm, encoder, tmp_path, split="val", seed=0)
    assert agreeing["score"] == pytest.approx(100 * 0.6 / len(WORDS))  # two of ten: 0.6
    assert found["five_options"] * len(WORDS) / 100 == pytest.approx(
        round(found["five_options"] * len(WORDS) / 100)
    )


def command(monkeypatch: pytest.MonkeyPatch, *told: str) -> int:
    monkeypatch.setattr("sys.argv", ["published", *told])
    return published.main()


@pytest.mark.parametrize(
    ("name", "split", "keys"),
    [
        ("vsr", "test", {"questions", "accuracy"}),
        ("vizwiz", "val", {"questions", "score", "five_options"}),
        ("hateful-memes", "dev", {"questions", "accuracy", "auroc"}),
    ],
)
def test_the_command_prints_scores(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    split: str,
    keys: set[str],
) -> None:
    vsr(tmp_path, [0, 1])
    memes(tmp_path, [0, 1])
    vizwiz(tmp_path)
    base = tiny_folder(tmp_path / "base")
    vlm = tiny_vlm_folder(tmp_path / "vlm", load_encoder(str(base)))
    told = [name, "--data", str(tmp_path), "--split", split, "--cut", "zeroshot"]
    assert command(monkeypatch, *told, "--encoder", str(base), "--vlm", str(vlm)) == 0
    scores: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(scores) == keys


def test_what_is_missing_is_told_with_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    base = tiny_folder(tmp_path / "base")
    told = ["vsr", "--data", str(tmp_path), "--split", "dev", "--encoder", str(base)]
    vlm = tiny_vlm_folder(tmp_path / "vlm", load_encoder(str(base)))
    assert command(monkeypatch, *told, "--vlm", str(vlm)) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "splits" / "random" / "dev.jsonl") in said
    assert command(monkeypatch, *told, "--vlm", str(tmp_path / "no-vlm")) == 1
    assert "no-vlm" in capsys.readouterr().err
