from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from encoder.vlm.answer_text import AnswerText
from encoder.vlm.words import load_words
from tests.support.tiny_vlm import save_tokenizer


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Byte-level: all that is not ASCII takes several tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return load_words(folder).tokenizer


@pytest.fixture(name="sentencepiece", scope="module")
def _sentencepiece() -> Any:
    """Llama's manner: spaces are marked in front of words, unknown characters are bytes."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "▁a", "▁cat", "s", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def pieces(tokenizer: Any, ids: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    text = AnswerText(tokenizer, stop)
    found = []
    for token in ids:
        found.append(text.push(token))
        if text.stopped:
            break
    return [*found, text.finish()]


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


@pytest.mark.parametrize("text", ["a stop sign", "größer als 3 €", "日本 🛑🛑 ok", "e\u0301!"])
def test_pieces_are_whole_characters_and_add_up(tokenizer: Any, text: str) -> None:
    ids = ids_of(tokenizer, text)
    found = pieces(tokenizer, ids)
    assert "".join(found) == text
    assert "\ufffd" not in "".join(found)
    assert max(map(len, found)) < len(text)


def test_a_character_that_is_not_finished_is_left_out(tokenizer: Any) -> None:
    ids = ids_of(tokenizer, "ok 🛑")
    assert "".join(pieces(tokenizer, ids[:-1])) == "ok "
    assert pieces(tokenizer, ids[-2:]) == ["", "", ""]


def test_bytes_that_are_no_character_are_told_when_the_next_one_shows_it(tokenizer: Any) -> None:
    broken = [*ids_of(tokenizer, "🛑")[:2], *ids_of(tokenizer, "ab")]
    found = "".join(pieces(tokenizer, broken))
    assert found.endswith("ab")
    assert found.startswith("\ufffd")


def test_the_space_in_front_of_an_answer_is_not_told(tokenizer: Any) -> None:
    assert "".join(pieces(tokenizer, ids_of(tokenizer, " \n a cat "))) == "a cat "


def test_words_of_sentencepiece_keep_their_spaces(sentencepiece: Any) -> None:
    ids = sentencepiece.convert_tokens_to_ids(["▁a", "▁cat", "s", "<0xC3>", "<0xA9>", "▁a"])
    assert pieces(sentencepiece, ids) == ["a", " cat", "s", "", "é", " a", ""]


def test_a_stop_text_across_tokens_is_held_back(tokenizer: Any) -> None:
    ids = ids_of(tokenizer, "one two three")
    assert "".join(pieces(tokenizer, ids, ["o th"])) == "one tw"
    found = pieces(tokenizer, ids, ["two four"])  # begins, but does not come
    assert "".join(found) == "one two three"
    assert "".join(pieces(tokenizer, ids, ["three!"])) == "one two three"  # may still begin


def test_the_first_of_several_stop_texts_counts(tokenizer: Any) -> None:
    ids = ids_of(tokenizer, "one two three")
    assert "".join(pieces(tokenizer, ids, ["three", "wo t", "e three"])) == "one t"
