"""JSON as it is read: what no database could store is refused, what only looks like it is not."""

from __future__ import annotations

import json

import pytest

from app.errors import JsonInvalid
from app.uploads import parse_json


@pytest.mark.parametrize(
    "content", [{"a": "x\0y"}, {"a\0": 1}, {"a": [[{"b": "\0"}]]}, "\0", ["\\\0"]]
)
def test_text_with_nul_is_refused_wherever_it_stands(content: object) -> None:
    with pytest.raises(JsonInvalid, match="NUL"):
        parse_json(json.dumps(content).encode())


@pytest.mark.parametrize("text", ["\\u0000", "C:\\u0000\\", "u0000"])
def test_a_backslash_that_is_meant_is_kept(text: str) -> None:
    assert parse_json(json.dumps([text]).encode()) == [text]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_hides_nothing(encoding: str) -> None:
    with pytest.raises(JsonInvalid):
        parse_json(json.dumps(["\0", "\ud800"]).encode(encoding))


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_json(b'\xef\xbb\xbf["\xc3\xa9"]') == ["é"]
