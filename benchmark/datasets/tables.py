"""CSV files of published sets."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmark.datasets.missing import SetMalformed


def read_table(
    path: Path, fields: Mapping[str, str], *, delimiter: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """("line N", row) of each row. `fields` maps every needed column to what to say without it.

    Raises SetMalformed, also for a row that is too short.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened, delimiter=delimiter)
            absent = [field for field in fields if field not in (rows.fieldnames or ())]
            if absent:
                reason = f"it has no column {absent[0]!r}: {fields[absent[0]]}"
                raise SetMalformed(path, "line 1", reason)
            for row in rows:
                where = f"line {rows.line_num}"
                short = [field for field in fields if row[field] is None]
                if short:
                    raise SetMalformed(path, where, f"it has no {short[0]}")
                yield where, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise SetMalformed(path, "the file", f"it is no CSV ({error})") from error
