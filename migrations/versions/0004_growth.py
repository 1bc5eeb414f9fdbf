"""Let what is asked often stay as quick with a million corrections as with a few."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_growth"
down_revision = "0003_snapshots"
branch_labels = None
depends_on = None

FORGOTTEN = sa.text("forgotten_at IS NOT NULL")
NOT_EMPTIED = sa.text("NOT emptied")


def upgrade() -> None:
    # The longest first: the locks of all are held to the end.
    op.create_index(
        "ix_corrections_forgotten",
        "corrections",
        ["id"],
        unique=False,
        sqlite_where=FORGOTTEN,
        postgresql_where=FORGOTTEN,
    )
    op.create_table(
        "live_lineage",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["version"], ["adapters.version"], name=op.f("fk_live_lineage_version_adapters")
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_live_lineage")),
    )
    op.add_column(
        "edit_jobs", sa.Column("emptied", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.create_index(
        "ix_edit_jobs_not_emptied",
        "edit_jobs",
        ["status", "number"],
        unique=False,
        sqlite_where=NOT_EMPTIED,
        postgresql_where=NOT_EMPTIED,
    )


def downgrade() -> None:
    op.drop_index("ix_edit_jobs_not_emptied", table_name="edit_jobs")
    op.drop_column("edit_jobs", "emptied")
    op.drop_index("ix_corrections_forgotten", table_name="corrections")
    op.drop_table("live_lineage")
