"""Questions about images: asked of control sets, and corrected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_questions"
down_revision = "0004_growth"
branch_labels = None
depends_on = None

LIVE = sa.text("superseded_by IS NULL AND forgotten_at IS NULL")
NAME = sa.String(length=100)
corrections = sa.table(
    "corrections",
    sa.column("image_sha256", sa.String),
    sa.column("label", sa.String),
    sa.column("predicted", sa.String),
    sa.column("note", sa.Text),
    sa.column("before", sa.JSON),
    sa.column("after", sa.JSON),
    sa.column("question", sa.Text),
    sa.column("created_at", sa.DateTime),
    sa.column("forgotten_at", sa.DateTime),
)
control_sets = sa.table("control_sets", sa.column("label_set", sa.String))


def upgrade() -> None:
    # Defaults, because a process of the former release may accept corrections during the upgrade.
    op.add_column("corrections", sa.Column("question", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "corrections",
        sa.Column("question_sha256", sa.String(length=64), server_default="", nullable=False),
    )
    op.add_column("corrections", sa.Column("answer", sa.Text(), nullable=True))
    op.add_column("corrections", sa.Column("wrong_answer", sa.Text(), nullable=True))
    _index("uq_corrections_live_question", ["image_sha256", "question_sha256"])
    _drop_index("uq_corrections_live_image")
    with op.batch_alter_table("control_sets") as table:
        table.alter_column("label_set", nullable=True, existing_type=NAME)
    op.create_table(
        "control_questions",
        sa.Column("control_set", sa.String(length=100), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("question_sha256", sa.String(length=64), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["control_set"],
            ["control_sets.name"],
            name=op.f("fk_control_questions_control_set_control_sets"),
        ),
        sa.ForeignKeyConstraint(
            ["image_sha256"],
            ["artifacts.sha256"],
            name=op.f("fk_control_questions_image_sha256_artifacts"),
        ),
        sa.PrimaryKeyConstraint(
            "control_set", "image_sha256", "question_sha256", name=op.f("pk_control_questions")
        ),
    )
    op.create_index(
        op.f("ix_control_questions_image_sha256"),
        "control_questions",
        ["image_sha256"],
        unique=False,
    )


def downgrade() -> None:
    """The former release knows no questions: corrections with one are forgotten, and control sets
    that only ask are gone."""
    op.drop_index(op.f("ix_control_questions_image_sha256"), table_name="control_questions")
    op.drop_table("control_questions")
    op.get_bind().execute(sa.delete(control_sets).where(control_sets.c.label_set.is_(None)))
    with op.batch_alter_table("control_sets") as table:
        table.alter_column("label_set", nullable=False, existing_type=NAME)
    forgotten = (
        sa.update(corrections)
        .where(corrections.c.question != "", corrections.c.forgotten_at.is_(None))
        .values(
            image_sha256=None,
            label="",  # it may quote the question, as what was predicted and answered may
            predicted=None,
            note=None,
            before=sa.null(),
            after=sa.null(),
            forgotten_at=corrections.c.created_at,
        )
    )
    op.get_bind().execute(forgotten)
    _index("uq_corrections_live_image", ["image_sha256"])
    _drop_index("uq_corrections_live_question")
    for column in ("wrong_answer", "answer", "question_sha256", "question"):
        op.drop_column("corrections", column)


def _index(name: str, columns: list[str]) -> None:
    op.create_index(
        name, "corrections", columns, unique=True, sqlite_where=LIVE, postgresql_where=LIVE
    )


def _drop_index(name: str) -> None:
    op.drop_index(name, table_name="corrections", sqlite_where=LIVE, postgresql_where=LIVE)
