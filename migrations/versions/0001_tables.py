"""Create the tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


revision = "0001_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "edit_methods",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("config_schema", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_edit_methods")),
    )
    op.create_table(
        "label_sets",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("labels", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("templates", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_label_sets")),
    )
    op.create_table(
        "adapters",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("stacked_on", sa.Integer(), nullable=True),
        sa.Column("method", sa.String(length=100), nullable=False),
        sa.Column("config", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("base_name", sa.Text(), nullable=False),
        sa.Column("base_pretrained", sa.Text(), nullable=True),
        sa.Column("base_digest", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("edit_job_id", sa.String(length=32), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"], ["artifacts.sha256"], name=op.f("fk_adapters_digest_artifacts")
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["adapters.version"], name=op.f("fk_adapters_parent_adapters")
        ),
        sa.ForeignKeyConstraint(
            ["stacked_on"], ["adapters.version"], name=op.f("fk_adapters_stacked_on_adapters")
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_adapters")),
        sa.UniqueConstraint("edit_job_id", name=op.f("uq_adapters_edit_job_id")),
    )
    op.create_index(op.f("ix_adapters_digest"), "adapters", ["digest"], unique=False)
    op.create_index(op.f("ix_adapters_parent"), "adapters", ["parent"], unique=False)
    op.create_table(
        "control_sets",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("label_set", sa.String(length=100), nullable=False),
        sa.Column("budget", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["label_set"], ["label_sets.name"], name=op.f("fk_control_sets_label_set_label_sets")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_control_sets")),
    )
    op.create_table(
        "control_images",
        sa.Column("control_set", sa.String(length=100), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(
            ["control_set"],
            ["control_sets.name"],
            name=op.f("fk_control_images_control_set_control_sets"),
        ),
        sa.ForeignKeyConstraint(
            ["image_sha256"],
            ["artifacts.sha256"],
            name=op.f("fk_control_images_image_sha256_artifacts"),
        ),
        sa.PrimaryKeyConstraint("control_set", "image_sha256", name=op.f("pk_control_images")),
    )
    op.create_index(
        op.f("ix_control_images_image_sha256"), "control_images", ["image_sha256"], unique=False
    )
    op.create_table(
        "edit_jobs",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("method", sa.String(length=100), nullable=False),
        sa.Column("config", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("base_digest", sa.String(length=64), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("adapter", sa.Integer(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("heartbeat", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'rejected', 'failed', 'cancelled')",
            name=op.f("ck_edit_jobs_status"),
        ),
        sa.ForeignKeyConstraint(
            ["adapter"], ["adapters.version"], name=op.f("fk_edit_jobs_adapter_adapters")
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["adapters.version"], name=op.f("fk_edit_jobs_parent_adapters")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_edit_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_edit_jobs_id")),
    )
    op.create_index("ix_edit_jobs_status_number", "edit_jobs", ["status", "number"], unique=False)
    op.create_index(
        "uq_edit_jobs_open",
        "edit_jobs",
        ["base_digest"],
        unique=True,
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open"),
    )
    op.create_index(
        "uq_edit_jobs_running",
        "edit_jobs",
        ["base_digest"],
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("label_set", sa.String(length=100), nullable=True),
        sa.Column("vocabulary", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_sha256"],
            ["artifacts.sha256"],
            name=op.f("fk_predictions_image_sha256_artifacts"),
        ),
        sa.ForeignKeyConstraint(
            ["label_set"], ["label_sets.name"], name=op.f("fk_predictions_label_set_label_sets")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["adapters.version"], name=op.f("fk_predictions_version_adapters")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )
    op.create_index(op.f("ix_predictions_created_at"), "predictions", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_predictions_image_sha256"), "predictions", ["image_sha256"], unique=False
    )
    op.create_table(
        "corrections",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=True),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("label_set", sa.String(length=100), nullable=True),
        sa.Column("vocabulary", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("predicted", sa.String(length=200), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("edit_job_id", sa.String(length=32), nullable=False),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_by", sa.String(length=32), nullable=True),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["edit_job_id"], ["edit_jobs.id"], name=op.f("fk_corrections_edit_job_id_edit_jobs")
        ),
        sa.ForeignKeyConstraint(
            ["image_sha256"],
            ["artifacts.sha256"],
            name=op.f("fk_corrections_image_sha256_artifacts"),
        ),
        sa.ForeignKeyConstraint(
            ["label_set"], ["label_sets.name"], name=op.f("fk_corrections_label_set_label_sets")
        ),
        sa.ForeignKeyConstraint(
            ["superseded_by"],
            ["corrections.id"],
            name=op.f("fk_corrections_superseded_by_corrections"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corrections")),
    )
    op.create_index(
        op.f("ix_corrections_edit_job_id"), "corrections", ["edit_job_id"], unique=False
    )
    op.create_index(
        op.f("ix_corrections_image_sha256"), "corrections", ["image_sha256"], unique=False
    )
    op.create_index(
        "uq_corrections_live_image",
        "corrections",
        ["image_sha256"],
        unique=True,
        sqlite_where=sa.text("superseded_by IS NULL AND forgotten_at IS NULL"),
        postgresql_where=sa.text("superseded_by IS NULL AND forgotten_at IS NULL"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("replaces", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("edit_job_id", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(replaces IS NULL AND id = 1) OR (replaces IS NOT NULL AND id = replaces + 1)",
            name=op.f("ck_promotions_replaces"),
        ),
        sa.ForeignKeyConstraint(
            ["edit_job_id"], ["edit_jobs.id"], name=op.f("fk_promotions_edit_job_id_edit_jobs")
        ),
        sa.ForeignKeyConstraint(
            ["replaces"], ["promotions.id"], name=op.f("fk_promotions_replaces_promotions")
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["adapters.version"], name=op.f("fk_promotions_version_adapters")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
        sa.UniqueConstraint("replaces", name=op.f("uq_promotions_replaces")),
    )
    op.create_index(op.f("ix_promotions_version"), "promotions", ["version"], unique=False)
    op.create_table(
        "adapter_corrections",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("correction_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["correction_id"],
            ["corrections.id"],
            name=op.f("fk_adapter_corrections_correction_id_corrections"),
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["adapters.version"], name=op.f("fk_adapter_corrections_version_adapters")
        ),
        sa.PrimaryKeyConstraint("version", "correction_id", name=op.f("pk_adapter_corrections")),
    )
    op.create_index(
        op.f("ix_adapter_corrections_correction_id"),
        "adapter_corrections",
        ["correction_id"],
        unique=False,
    )
    op.create_table(
        "edit_job_corrections",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("correction_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["correction_id"],
            ["corrections.id"],
            name=op.f("fk_edit_job_corrections_correction_id_corrections"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["edit_jobs.id"], name=op.f("fk_edit_job_corrections_job_id_edit_jobs")
        ),
        sa.PrimaryKeyConstraint("job_id", "correction_id", name=op.f("pk_edit_job_corrections")),
    )
    op.create_index(
        op.f("ix_edit_job_corrections_correction_id"),
        "edit_job_corrections",
        ["correction_id"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_edit_job_corrections_correction_id"), table_name="edit_job_corrections")
    op.drop_table("edit_job_corrections")
    op.drop_index(op.f("ix_adapter_corrections_correction_id"), table_name="adapter_corrections")
    op.drop_table("adapter_corrections")
    op.drop_index(op.f("ix_promotions_version"), table_name="promotions")
    op.drop_table("promotions")
    op.drop_index(
        "uq_corrections_live_image",
        table_name="corrections",
        sqlite_where=sa.text("superseded_by IS NULL AND forgotten_at IS NULL"),
        postgresql_where=sa.text("superseded_by IS NULL AND forgotten_at IS NULL"),
    )
    op.drop_index(op.f("ix_corrections_image_sha256"), table_name="corrections")
    op.drop_index(op.f("ix_corrections_edit_job_id"), table_name="corrections")
    op.drop_table("corrections")
    op.drop_index(op.f("ix_predictions_image_sha256"), table_name="predictions")
    op.drop_index(op.f("ix_predictions_created_at"), table_name="predictions")
    op.drop_table("predictions")
    op.drop_index(
        "uq_edit_jobs_running",
        table_name="edit_jobs",
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.drop_index(
        "uq_edit_jobs_open",
        table_name="edit_jobs",
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open"),
    )
    op.drop_index("ix_edit_jobs_status_number", table_name="edit_jobs")
    op.drop_table("edit_jobs")
    op.drop_index(op.f("ix_control_images_image_sha256"), table_name="control_images")
    op.drop_table("control_images")
    op.drop_table("control_sets")
    op.drop_index(op.f("ix_adapters_parent"), table_name="adapters")
    op.drop_index(op.f("ix_adapters_digest"), table_name="adapters")
    op.drop_table("adapters")
    op.drop_table("label_sets")
    op.drop_table("edit_methods")
    op.drop_table("artifacts")
