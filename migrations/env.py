"""Run by Alembic with the connection that `registry.schema` has opened; it commits, not this."""

from __future__ import annotations

from alembic import context

from registry.tables import Row, UtcDateTime


def _shown_type(kind: str, value: object, _context: object) -> str | bool:
    """Migrations speak plain SQLAlchemy types, so that they outlive our own."""
    if kind == "type" and isinstance(value, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    compare_type=True,
    render_as_batch=True,
    render_item=_shown_type,
)
with context.begin_transaction():
    context.run_migrations()
