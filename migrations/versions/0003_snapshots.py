"""Snapshots of versions, and how deep each version is stacked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_snapshots"
down_revision = "0002_vocabularies"
branch_labels = None
depends_on = None

adapters = sa.table(
    "adapters",
    sa.column("version", sa.Integer),
    sa.column("stacked_on", sa.Integer),
    sa.column("depth", sa.Integer),
)


def upgrade() -> None:
    op.create_table(
        "snapshots",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"], ["artifacts.sha256"], name=op.f("fk_snapshots_digest_artifacts")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["adapters.version"], name=op.f("fk_snapshots_version_adapters")
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_snapshots")),
    )
    op.create_index(op.f("ix_snapshots_digest"), "snapshots", ["digest"], unique=False)
    # A default, because a worker of the former release may record a version during the upgrade.
    op.add_column("adapters", sa.Column("depth", sa.Integer(), server_default="0", nullable=False))
    _count_depths(op.get_bind())
    op.create_index(op.f("ix_adapters_depth"), "adapters", ["depth"], unique=False)


def _count_depths(connection: sa.Connection) -> None:
    query = sa.select(adapters.c.version, adapters.c.stacked_on).order_by(adapters.c.version)
    depths: dict[int, int] = {}
    for version, beneath in connection.execute(query).all():  # what lies beneath is older
        depths[version] = 1 + depths.get(beneath, 0) if version else 0
    update = sa.update(adapters).where(adapters.c.version == sa.bindparam("this"))
    rows = [{"this": version, "count": depth} for version, depth in depths.items() if depth]
    if rows:
        connection.execute(update.values(depth=sa.bindparam("count")), rows)


def downgrade() -> None:
    op.drop_index(op.f("ix_adapters_depth"), table_name="adapters")
    op.drop_column("adapters", "depth")
    op.drop_index(op.f("ix_snapshots_digest"), table_name="snapshots")
    op.drop_table("snapshots")
