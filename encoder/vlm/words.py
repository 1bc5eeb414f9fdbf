"""Text to token ids and where an answer begins, from a Hugging Face tokenizer folder.

`tokenizer.json` is used as it is written: transformers' own classes rebuild some tokenizers from
their vocabulary, with other rules for spaces than those that the model was trained with.

Surprise: tokenizers in SentencePiece's manner put a space in front of each text they are given.
Some do so only at the very beginning; the pieces of a prompt after the first are then encoded
without, as they would be inside of the whole text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from encoder.vlm.errors import VlmInvalid

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, eq=False)
class Words:
    """Encodes what people wrote: no text of theirs becomes a special token. Thread safe."""

    tokenizer: Any  # transformers fast tokenizer
    begin: int | None  # id of the token that begins a dialogue
    end: int  # id of the token that ends an answer

    def ids(self, text: str, *, first: bool) -> list[int]:
        """A piece of a prompt; `first`: nothing stands in front of it."""
        plain = self._first if first else self._later
        return cast("list[int]", plain.encode(text, add_special_tokens=False).ids)

    def answer_ids(self, anchor: str, answer: str) -> list[int]:
        """`answer` as it continues a prompt that ends with `anchor`, without an end token.

        It is encoded together with the anchor, because a space in front of it belongs to its first
        token in some vocabularies and is a token of its own in none.
        """
        before = self.ids(anchor, first=False)
        both = self.ids(f"{anchor} {answer}", first=False)
        if both[: len(before)] != before:  # the anchor's last token grew into the answer
            return self.ids(f" {answer}", first=False)
        return both[len(before) :]

    @cached_property
    def longest(self) -> int:
        """No token stands for more characters than that."""
        return max(map(len, self.tokenizer.get_vocab()))

    @cached_property
    def _first(self) -> Any:
        return self._clone(self._state)

    @cached_property
    def _later(self) -> Any:
        state = json.loads(json.dumps(self._state))
        for part in _parts(state.get("pre_tokenizer")):
            if part.get("prepend_scheme") == "first":
                part["prepend_scheme"] = "never"
        return self._clone(state)

    @cached_property
    def _state(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.tokenizer.backend_tokenizer.to_str()))

    def _clone(self, state: dict[str, Any]) -> Any:
        plain = type(self.tokenizer.backend_tokenizer).from_str(json.dumps(state))
        plain.no_truncation()
        plain.no_padding()
        plain.encode_special_tokens = True  # "</s>" in a question is four characters
        return plain


def load_words(folder: Path, *, rows: int | None = None) -> Words:
    """Read tokenizer.json and tokenizer_config.json; `rows`: tokens that the decoder knows.

    Raises VlmInvalid.
    """
    from transformers import PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise VlmInvalid(str(folder), "it has no tokenizer.json")
    special = _special_tokens(folder)
    with _Readable(file):
        tokenizer = cast(Any, PreTrainedTokenizerFast)(tokenizer_file=str(file), **special)
    if tokenizer.eos_token_id is None:
        raise VlmInvalid(str(folder), "its tokenizer_config.json names no eos_token")
    words = Words(tokenizer, tokenizer.bos_token_id, int(tokenizer.eos_token_id))
    if rows is not None:
        _check_rows(words, rows, folder)
    return words


def _check_rows(words: Words, rows: int, folder: Path) -> None:
    """Refuses tokens that a prompt may hold and the decoder has no row for; special ones besides
    those that begin and end (Llama's later `<pad>`) are in no prompt."""
    plain = words.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    named = {"bos_token": words.begin, "eos_token": words.end}
    for name, token in (*plain.items(), *named.items()):
        if token is not None and token >= rows:
            reason = f"its tokenizer's {name!r} has the id {token}, its decoder {rows} tokens"
            raise VlmInvalid(str(folder), reason)


def _special_tokens(folder: Path) -> dict[str, str]:
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        raise VlmInvalid(str(folder), "it has no tokenizer_config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        named = {name: config[name] for name in _SPECIAL if config.get(name)}
        return {
            name: token if isinstance(token, str) else str(token["content"])
            for name, token in named.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as cause:
        raise VlmInvalid(str(file), f"{type(cause).__name__}: {cause}") from cause


@dataclass(frozen=True)
class _Readable:
    """Around reading a tokenizer's file, whose library raises bare `Exception`s."""

    file: Path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is Exception or kind is ValueError:
            raise VlmInvalid(str(self.file), str(error)) from error


def _parts(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A pre-tokenizer and, if it is a sequence, those that it is made of."""
    if component is None:
        return []
    return [component, *component.get("pretokenizers", [])]
