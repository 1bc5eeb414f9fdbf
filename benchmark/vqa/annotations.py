"""Reading the annotation files of published sets: what is not as it should be is said, and where.

Nothing is downloaded: the sets are the reader's own copies, in the layout their authors publish.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.datasets.missing import SetMalformed


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("line N", object) of each line that is not empty. Raises SetMalformed."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.strip():
            yield f"line {number}", _object(path, f"line {number}", line)


def read_array(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("entry N", object) of each entry of a JSON array. Raises SetMalformed."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise SetMalformed(path, "the file", f"it is not JSON ({error})") from error
    if not isinstance(content, list):
        raise SetMalformed(path, "the file", "it is not a list of entries")
    for number, entry in enumerate(content, start=1):
        if not isinstance(entry, dict):
            raise SetMalformed(path, f"entry {number}", "it is not an object")
        yield f"entry {number}", entry


def text(entry: Mapping[str, Any], key: str, path: Path, where: str) -> str:
    """A text field. Raises SetMalformed."""
    value = entry.get(key)
    if not isinstance(value, str):
        raise SetMalformed(path, where, f"{key!r} is {value!r}, not a text")
    return value


def binary(entry: Mapping[str, Any], key: str, path: Path, where: str) -> int:
    """A field that is 0 or 1. Raises SetMalformed."""
    value = entry.get(key)
    if value not in (0, 1):
        raise SetMalformed(path, where, f"{key!r} is {value!r}, neither 0 nor 1")
    return int(value)


def _object(path: Path, where: str, line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise SetMalformed(path, where, f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise SetMalformed(path, where, "it is not an object")
    return content
