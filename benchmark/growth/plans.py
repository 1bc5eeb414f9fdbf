"""What PostgreSQL does for a statement: its plan, and how many rows it looks at.

Rows looked at are the growth that no quiet machine is needed to see: they are the same every time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

EXPLAINED = ("SELECT", "UPDATE", "DELETE", "WITH")
SHORTEST = 40
"""Characters of a statement that is worth a plan: below are probes and locks."""


@dataclass
class Plans:
    """The plans of one operation's statements, in order."""

    texts: list[str] = field(default_factory=list)
    rows: int = 0
    """Rows that all scans of all statements fetched, those that a filter dropped included."""


def explain(session: Session, act: Callable[[], object]) -> Plans:
    """Run `act` in the session and explain each of its statements first, as it stands then.

    Each statement runs twice; the first run is taken back.
    """
    plans = Plans()
    with _listening(session.connection(), plans):
        act()
    return plans


@contextmanager
def _listening(connection: Connection, plans: Plans) -> Iterator[None]:
    explaining = False

    def before(
        _connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        _context: object,
        executemany: bool,
    ) -> None:
        nonlocal explaining
        wanted = statement.lstrip().startswith(EXPLAINED) and len(statement) > SHORTEST
        if explaining or executemany or not wanted:
            return
        explaining = True
        with cursor.connection.cursor() as own:
            own.execute("SAVEPOINT before_the_plan")
            own.execute(
                f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, FORMAT JSON) {statement}", parameters
            )
            [[found]] = own.fetchall()
            own.execute("ROLLBACK TO SAVEPOINT before_the_plan")
        explaining = False
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        plans.texts.append("\n".join([shown(statement), *_lines(plan, 1)]))
        plans.rows += _rows(plan)

    event.listen(connection, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", before)


def shown(statement: str) -> str:
    """A statement as a person reads it: no long lists of columns or of parameters."""
    text = re.sub(r"%\(\w+\)s(::[A-Z ]+\b)?", "?", " ".join(statement.split()))
    text = re.sub(r"\(\?(, \?)+\)", "(?, …)", text)
    return re.sub(r"SELECT (?:(?! FROM ).){80,} FROM ", "SELECT … FROM ", text)


def _cut(text: str, longest: int = 120) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows(plan: dict[str, Any]) -> int:
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in _nodes(plan)
        if "Scan" in node["Node Type"]
    )


def _lines(plan: dict[str, Any], depth: int) -> Iterator[str]:
    """The plan as text, in the manner of `EXPLAIN`."""
    said = [plan["Node Type"]]
    if plan.get("Join Type") not in (None, "Inner"):
        said.append(plan["Join Type"].lower())
    if "Index Name" in plan:
        said.append(f"using {plan['Index Name']}")
    if "Relation Name" in plan:
        said.append(f"on {plan['Relation Name']}")
    said.append(f"(rows={plan['Actual Rows']} loops={plan['Actual Loops']})")
    yield "  " * depth + " ".join(said)
    for kind in ("Index Cond", "Recheck Cond", "Filter", "Rows Removed by Filter"):
        if kind in plan:
            yield "  " * (depth + 2) + f"{kind}: {_cut(str(plan[kind]))}"
    for child in plan.get("Plans", ()):
        yield from _lines(child, depth + 1)
