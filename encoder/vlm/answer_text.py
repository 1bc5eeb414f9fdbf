"""Tokens to text as they come: whole characters only, and nothing of a text that ends the answer.

One token may be a part of a character (byte-level vocabularies), and its text may depend on the
token in front of it (spaces), so tokens are decoded together with those that were told last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

_UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character


class AnswerText:
    """The text of one answer, piece by piece; all pieces together are the answer."""

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._context, self._told = 0, 0  # decoding starts at the one; text is out up to the other
        self._kept_back = ""  # may be the beginning of a stop text
        self._begun = False
        self.stopped = False  # a stop text was reached

    def push(self, token: int) -> str:
        """What can be told after one more token, maybe nothing."""
        self._ids.append(token)
        fresh = self._fresh()
        if fresh.endswith(_UNFINISHED):
            return ""
        self._context, self._told = self._told, len(self._ids)
        return self._tell(fresh)

    def finish(self) -> str:
        """What is left at the end; a character that was not finished is left out."""
        if self.stopped:
            return ""
        rest = self._tell(self._fresh().rstrip(_UNFINISHED))
        self._told = len(self._ids)
        if self.stopped:
            return rest
        rest, self._kept_back = rest + self._kept_back, ""
        return rest

    def _fresh(self) -> str:
        known = self._decode(self._ids[self._context : self._told])
        fresh = self._decode(self._ids[self._context :])[len(known) :]
        return fresh if self._begun else fresh.lstrip()

    def _decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return cast(str, text)

    def _tell(self, fresh: str) -> str:
        self._begun = self._begun or bool(fresh)
        text = self._kept_back + fresh
        ends = [text.find(stop) for stop in self._stop if stop in text]
        if ends:
            self.stopped, self._kept_back = True, ""
            return text[: min(ends)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._kept_back = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` may begin."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
