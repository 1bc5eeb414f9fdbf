"""What a run found: a table to read, JSON to compare, plans to look into."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.growth.measure import Measured

HEAD = f"{'operation':<48} {'p50 / p95 ms, small':>20} {'large':>16} {'p95 ratio':>10} {'rows':>14}"


def table(measured: Sequence[Measured]) -> str:
    """One line an operation; the rows are those that scans looked at, small → large."""
    return "\n".join([HEAD, "-" * len(HEAD), *map(_line, measured)])


def _line(one: Measured) -> str:
    small, large = (f"{t.p50:.2f} / {t.p95:.2f}" for t in (one.small, one.large))
    rows = f"{one.small_plans.rows:,} → {one.large_plans.rows:,}"
    verdict = "GREW" if one.grew else "" if one.operation.flat else "bounded"
    name = one.operation.name
    return f"{name:<48} {small:>20} {large:>16} {one.ratio:>10.2f} {rows:>14} {verdict}".rstrip()


def plans(measured: Sequence[Measured]) -> str:
    """Every statement of every operation in the large database, with its plan."""
    parts = [
        "Plans in the large database (EXPLAIN ANALYZE); a node's rows are the mean of its loops."
    ]
    for one in measured:
        parts.append(f"\n== {one.operation.name}: {one.large_plans.rows:,} rows looked at\n")
        parts += one.large_plans.texts
    return "\n".join(parts) + "\n"
