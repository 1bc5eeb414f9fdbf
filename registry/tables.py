"""The tables. Types mean the same on SQLite and PostgreSQL; every time is UTC and aware.

`edit_jobs` and `adapters` name each other, so `adapters.edit_job_id` carries no foreign key. A
promotion's id is the id of the one it replaces plus one, so history cannot fork.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Json = JSON(none_as_null=True)
Digest, Identity = String(64), String(32)  # lower-case hex: a sha256, a uuid
Name, Label = String(100), String(200)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out; SQLite itself keeps no zone. Refuses naive times."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None if dialect.name == "sqlite" else UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Row(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime}  # noqa: RUF012 (declared so by SQLAlchemy)


class Artifact(Row):
    """A stored file that some row names."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime]


class EditJob(Row):
    """`open` jobs still gather corrections; `attempt` fences the writes of the running worker."""

    __tablename__ = "edit_jobs"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(Identity, unique=True)
    status: Mapped[str] = mapped_column(String(16))
    open: Mapped[bool]
    method: Mapped[str] = mapped_column(Name)
    config: Mapped[dict[str, Any]] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(BigInteger)
    base_digest: Mapped[str] = mapped_column(Digest)
    parent: Mapped[int | None] = mapped_column(ForeignKey("adapters.version"))
    """The live version when the job was claimed."""
    adapter: Mapped[int | None] = mapped_column(ForeignKey("adapters.version"))
    size: Mapped[int]
    """Corrections that joined this job."""
    attempt: Mapped[int] = mapped_column(default=0)
    lost: Mapped[int] = mapped_column(default=0)
    """Attempts whose heartbeat stopped."""
    worker: Mapped[str | None] = mapped_column(String(200))
    heartbeat: Mapped[datetime | None]
    progress: Mapped[dict[str, Any]] = mapped_column(Json)
    report: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    emptied: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Ended in nothing, and no correction that stands has it as its latest: never looked at again
    for what to try once more."""
    created_at: Mapped[datetime]
    starts_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'rejected', 'failed', 'cancelled')",
            name="status",
        ),
        Index(
            "uq_edit_jobs_running",
            "base_digest",
            unique=True,
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
        Index(
            "uq_edit_jobs_open",
            "base_digest",
            unique=True,
            sqlite_where=text("open = 1"),
            postgresql_where=text("open"),
        ),
        Index("ix_edit_jobs_status_number", "status", "number"),
        Index(
            "ix_edit_jobs_not_emptied",
            "status",
            "number",
            sqlite_where=text("NOT emptied"),
            postgresql_where=text("NOT emptied"),
        ),
    )


class Correction(Row):
    """Live while neither superseded nor forgotten. A live image has one label, and one answer to
    each question that was asked about it."""

    __tablename__ = "corrections"

    id: Mapped[str] = mapped_column(Identity, primary_key=True)
    image_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    """None once forgotten."""
    label: Mapped[str] = mapped_column(Label)
    """What the encoder learns to call it; '' where the answer to a question says no such thing."""
    label_set: Mapped[str | None] = mapped_column(ForeignKey("label_sets.name"))
    vocabulary: Mapped[list[str] | None] = mapped_column(Json)
    """What the wrong prediction chose from, when no label set names it."""
    predicted: Mapped[str | None] = mapped_column(Label)
    note: Mapped[str | None] = mapped_column(Text)
    question: Mapped[str] = mapped_column(Text, server_default="")
    """'' for a correction of the label alone; so is its hash then."""
    question_sha256: Mapped[str] = mapped_column(Digest, server_default="")
    """Stands for the question in indexes, which could not hold a long one."""
    answer: Mapped[str | None] = mapped_column(Text)
    """The right one; None without a question."""
    wrong_answer: Mapped[str | None] = mapped_column(Text)
    edit_job_id: Mapped[str] = mapped_column(ForeignKey("edit_jobs.id"), index=True)
    """The latest it joined; `edit_job_corrections` keeps them all."""
    before: Mapped[dict[str, Any] | None] = mapped_column(Json)
    after: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime]
    superseded_by: Mapped[str | None] = mapped_column(
        ForeignKey("corrections.id", deferrable=True, initially="DEFERRED")
    )
    forgotten_at: Mapped[datetime | None]

    edit_job: Mapped[EditJob] = relationship(lazy="raise")

    @property
    def state(self) -> str:
        """pending, running, applied, rejected, failed, cancelled, superseded or forgotten."""
        if self.forgotten_at is not None:
            return "forgotten"
        if self.superseded_by is not None:
            return "superseded"
        status = self.edit_job.status
        return {"queued": "pending", "succeeded": "applied"}.get(status, status)

    __table_args__ = (
        Index(
            "uq_corrections_live_question",
            "image_sha256",
            "question_sha256",
            unique=True,
            sqlite_where=text("superseded_by IS NULL AND forgotten_at IS NULL"),
            postgresql_where=text("superseded_by IS NULL AND forgotten_at IS NULL"),
        ),
        Index(
            "ix_corrections_forgotten",
            "id",
            sqlite_where=text("forgotten_at IS NOT NULL"),
            postgresql_where=text("forgotten_at IS NOT NULL"),
        ),
    )


class EditJobCorrection(Row):
    """The new corrections of a job."""

    __tablename__ = "edit_job_corrections"

    job_id: Mapped[str] = mapped_column(ForeignKey("edit_jobs.id"), primary_key=True)
    correction_id: Mapped[str] = mapped_column(
        ForeignKey("corrections.id"), primary_key=True, index=True
    )


class AdapterRecord(Row):
    """One version. `report` carries the gate's verdict: refused candidates are kept too."""

    __tablename__ = "adapters"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(ForeignKey("adapters.version"), index=True)
    stacked_on: Mapped[int | None] = mapped_column(ForeignKey("adapters.version"))
    """The version beneath when fitted on top of it; None when fitted from the base."""
    depth: Mapped[int] = mapped_column(server_default="0", index=True)
    """Files that make it when no snapshot spares any: 1 on the base, else one more than the version
    beneath. Whoever writes rows without `record_adapter` (seeds, restores) gives it just so."""
    method: Mapped[str] = mapped_column(Name)
    config: Mapped[dict[str, Any]] = mapped_column(Json)
    seed: Mapped[int] = mapped_column(BigInteger)
    base_name: Mapped[str] = mapped_column(Text)
    base_pretrained: Mapped[str | None] = mapped_column(Text)
    base_digest: Mapped[str] = mapped_column(Digest)
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    parameters: Mapped[int] = mapped_column(BigInteger)
    """Numbers that were trained."""
    strength: Mapped[float] = mapped_column(Double)
    edit_job_id: Mapped[str | None] = mapped_column(Identity, unique=True)
    report: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime]


class SnapshotRecord(Row):
    """A version's changed weights as one file, which spares its loading all adapters beneath.

    A cache: a version without one is merged from its adapters.
    """

    __tablename__ = "snapshots"

    version: Mapped[int] = mapped_column(ForeignKey("adapters.version"), primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class LiveLineage(Row):
    """The live version and its ancestors, without the base: see `registry.lineage`."""

    __tablename__ = "live_lineage"

    version: Mapped[int] = mapped_column(
        ForeignKey("adapters.version"), primary_key=True, autoincrement=False
    )


class AdapterCorrection(Row):
    """Every correction a version was fitted on, new and replayed."""

    __tablename__ = "adapter_corrections"

    version: Mapped[int] = mapped_column(ForeignKey("adapters.version"), primary_key=True)
    correction_id: Mapped[str] = mapped_column(
        ForeignKey("corrections.id"), primary_key=True, index=True
    )


class Promotion(Row):
    """Appended, never changed; the one of the highest id is live."""

    __tablename__ = "promotions"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(ForeignKey("adapters.version"), index=True)
    replaces: Mapped[int | None] = mapped_column(ForeignKey("promotions.id"), unique=True)
    reason: Mapped[str] = mapped_column(Text)
    edit_job_id: Mapped[str | None] = mapped_column(ForeignKey("edit_jobs.id"))
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint(
            "(replaces IS NULL AND id = 1) OR (replaces IS NOT NULL AND id = replaces + 1)",
            name="replaces",
        ),
    )


class LabelSet(Row):
    __tablename__ = "label_sets"

    name: Mapped[str] = mapped_column(Name, primary_key=True)
    labels: Mapped[list[str]] = mapped_column(Json)
    templates: Mapped[list[str]] = mapped_column(Json)
    """Empty: the encoder's own prompt templates."""
    updated_at: Mapped[datetime]


class ControlSet(Row):
    __tablename__ = "control_sets"

    name: Mapped[str] = mapped_column(Name, primary_key=True)
    label_set: Mapped[str | None] = mapped_column(ForeignKey("label_sets.name"))
    """None for one that only asks questions."""
    budget: Mapped[float | None] = mapped_column(Double)
    """Points it may lose; None: the service's own setting."""
    created_at: Mapped[datetime]


class ControlImage(Row):
    __tablename__ = "control_images"

    control_set: Mapped[str] = mapped_column(ForeignKey("control_sets.name"), primary_key=True)
    image_sha256: Mapped[str] = mapped_column(
        ForeignKey("artifacts.sha256"), primary_key=True, index=True
    )
    label: Mapped[str | None] = mapped_column(Label)


class ControlQuestion(Row):
    """A question about a control image, which need not be one that is classified."""

    __tablename__ = "control_questions"

    control_set: Mapped[str] = mapped_column(ForeignKey("control_sets.name"), primary_key=True)
    image_sha256: Mapped[str] = mapped_column(
        ForeignKey("artifacts.sha256"), primary_key=True, index=True
    )
    question_sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    """Stands for the question in the key, which could not hold a long one."""
    question: Mapped[str] = mapped_column(Text)
    answer: Mapped[str | None] = mapped_column(Text)
    """The expected one; None: what the base encoder lets the model answer."""
    options: Mapped[list[str] | None] = mapped_column(Json)
    """None: any text may be the answer."""


class Vocabulary(Row):
    """What predictions chose from, once for all that chose from the same; ordered as asked."""

    __tablename__ = "vocabularies"

    digest: Mapped[str] = mapped_column(Digest, primary_key=True)
    """sha256 of the labels as JSON."""
    labels: Mapped[list[str]] = mapped_column(Json)
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Size of the labels as JSON."""


class Prediction(Row):
    """An answer of `/classify`, kept for a while so that a correction can name it."""

    __tablename__ = "predictions"

    id: Mapped[str] = mapped_column(Identity, primary_key=True)
    image_sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    version: Mapped[int] = mapped_column(ForeignKey("adapters.version"))
    label_set: Mapped[str | None] = mapped_column(ForeignKey("label_sets.name"))
    vocabulary_digest: Mapped[str] = mapped_column(ForeignKey("vocabularies.digest"), index=True)
    answer: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    """`[{"label", "score"}, …]`, best first."""
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Size of the image and of the answer; that of the vocabulary is its own."""
    created_at: Mapped[datetime] = mapped_column(index=True)

    chosen_from: Mapped[Vocabulary] = relationship(lazy="joined", innerjoin=True)

    @property
    def vocabulary(self) -> list[str]:
        """The labels that were possible."""
        return self.chosen_from.labels


class EditMethod(Row):
    """What workers can do: the API checks a config without training code."""

    __tablename__ = "edit_methods"

    name: Mapped[str] = mapped_column(Name, primary_key=True)
    config_schema: Mapped[dict[str, Any]] = mapped_column(Json)
    updated_at: Mapped[datetime]
