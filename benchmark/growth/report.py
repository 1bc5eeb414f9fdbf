"""What a run found: tables to read (Markdown, as the README has them), plans to look into."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.growth.measure import Measured, Timing
from benchmark.growth.over_http import Asked


def table(measured: Sequence[Measured]) -> str:
    """One line an operation; the rows are those that scans looked at."""
    head = ("operation", "p50 / p95 ms, small", "large", "p95 ratio", "rows, small", "large", "")
    return _table(
        head,
        [
            (
                one.operation.name,
                _milliseconds(one.small),
                _milliseconds(one.large),
                f"{one.ratio:.2f}",
                f"{one.small_plans.rows:,}",
                f"{one.large_plans.rows:,}",
                _verdict(one),
            )
            for one in measured
        ],
    )


def requests(asked: Sequence[Asked]) -> str:
    """One line a request."""
    return _table(
        ("request", "p50 / p95 ms, small", "large", "p95 ratio", ""),
        [
            (
                one.name,
                _milliseconds(one.small),
                _milliseconds(one.large),
                f"{one.large.p95 / one.small.p95:.2f}",
                "**grew**" if one.grew else "",
            )
            for one in asked
        ],
    )


def _verdict(one: Measured) -> str:
    if one.operation.flat:
        return "**grew**" if one.grew else ""
    return f"grows with {one.operation.grows_with}"


def _milliseconds(timing: Timing) -> str:
    return f"{timing.p50:.2f} / {timing.p95:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plans(measured: Sequence[Measured]) -> str:
    """Every statement of every operation in the large database, with its plan."""
    parts = [
        "Plans in the large database (EXPLAIN ANALYZE); a node's rows are a mean of its loops."
    ]
    for one in measured:
        parts.append(f"\n== {one.operation.name}: {one.large_plans.rows:,} rows looked at\n")
        parts += one.large_plans.texts
    return "\n".join(parts) + "\n"
