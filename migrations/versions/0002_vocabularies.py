"""Keep what predictions chose from once, however many predictions chose from it."""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0002_vocabularies"
down_revision = "0001_tables"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True)
FOREIGN_KEY = "fk_predictions_vocabulary_digest_vocabularies"
vocabularies = sa.table(
    "vocabularies",
    sa.column("digest", sa.String),
    sa.column("labels", JSON),
    sa.column("bytes", sa.BigInteger),
)
predictions = sa.table(
    "predictions",
    sa.column("id", sa.String),
    sa.column("vocabulary", JSON),
    sa.column("vocabulary_digest", sa.String),
)


def upgrade() -> None:
    op.create_table(
        "vocabularies",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_vocabularies")),
    )
    op.add_column("predictions", sa.Column("vocabulary_digest", sa.String(length=64)))
    _point_to_vocabularies(op.get_bind())
    with op.batch_alter_table("predictions") as table:
        table.alter_column("vocabulary_digest", nullable=False, existing_type=sa.String(length=64))
        table.create_foreign_key(
            op.f(FOREIGN_KEY), "vocabularies", ["vocabulary_digest"], ["digest"]
        )
        table.drop_column("vocabulary")
    op.create_index(
        op.f("ix_predictions_vocabulary_digest"), "predictions", ["vocabulary_digest"], unique=False
    )


def _point_to_vocabularies(connection: sa.Connection) -> None:
    known: set[str] = set()
    ids = connection.scalars(sa.select(predictions.c.id)).all()
    for one in ids:  # one row at a time: all of them together may not fit into memory
        row = predictions.c.id == one
        labels = connection.scalars(sa.select(predictions.c.vocabulary).where(row)).one()
        text = json.dumps(labels, ensure_ascii=False).encode()
        digest = hashlib.sha256(text).hexdigest()
        if digest not in known:
            known.add(digest)
            values = {"digest": digest, "labels": labels, "bytes": len(text)}
            connection.execute(sa.insert(vocabularies).values(values))
        connection.execute(sa.update(predictions).where(row).values(vocabulary_digest=digest))


def downgrade() -> None:
    op.drop_index(op.f("ix_predictions_vocabulary_digest"), table_name="predictions")
    op.add_column("predictions", sa.Column("vocabulary", sa.JSON(none_as_null=True)))
    labels = sa.select(vocabularies.c.labels).where(
        vocabularies.c.digest == predictions.c.vocabulary_digest
    )
    op.get_bind().execute(sa.update(predictions).values(vocabulary=labels.scalar_subquery()))
    with op.batch_alter_table("predictions") as table:
        table.alter_column("vocabulary", nullable=False, existing_type=sa.JSON(none_as_null=True))
        table.drop_constraint(op.f(FOREIGN_KEY), type_="foreignkey")
        table.drop_column("vocabulary_digest")
    op.drop_table("vocabularies")
