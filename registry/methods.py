"""What edits the worker can make: the JSON schema of each method's config."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.session import take_turn
from registry.tables import EditMethod


def publish_method(
    session: Session, name: str, config_schema: Mapping[str, Any], *, now: datetime
) -> None:
    """Create or replace; workers do so when they start."""
    take_turn(session)
    row = session.get(EditMethod, name)
    if row is None:
        row = EditMethod(name=name)
        session.add(row)
    row.config_schema = dict(config_schema)
    row.updated_at = now
    session.flush()


def list_methods(session: Session) -> list[EditMethod]:
    """All of them, by name; none before a worker has started."""
    return list(session.scalars(select(EditMethod).order_by(EditMethod.name)))
