"""Shapes of `/edit-jobs`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from registry.tables import EditJob


class EditJobRequest(BaseModel):
    """Starts an edit at once. ``config`` is what the method publishes in `GET /edit-methods`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"method": "lorsu", "config": {"rank": 16}}]},
    )

    method: Annotated[str, Field(min_length=1, max_length=100)] = "lorsu"
    config: dict[str, Any] = {}
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Progress(BaseModel):
    """Where a job stands; ``loss`` is null outside of training."""

    phase: str = "waiting"
    step: int = 0
    steps: int = 0
    loss: float | None = None


class EditJobDetail(BaseModel):
    """``parent`` is the version that was live when the job ran, ``adapter`` the version it made."""

    id: str
    number: int
    status: str
    progress: Progress
    corrections: list[str]
    parent: int | None
    adapter: int | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    method: str
    config: dict[str, Any]
    seed: int
    attempt: int
    cancel_requested: bool
    created_at: datetime
    starts_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: EditJob, corrections: list[str]) -> EditJobDetail:
        """The shape of a row and the ids of the corrections that joined it."""
        progress = {name: job.progress.get(name) for name in Progress.model_fields}
        return cls(
            id=job.id,
            number=job.number,
            status=job.status,
            progress=Progress(**{k: v for k, v in progress.items() if v is not None}),
            corrections=corrections,
            parent=job.parent,
            adapter=job.adapter,
            report=job.report,
            error=job.error,
            method=job.method,
            config=job.config,
            seed=job.seed,
            attempt=job.attempt,
            cancel_requested=job.cancel_requested,
            created_at=job.created_at,
            starts_at=job.starts_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class EditJobPage(BaseModel):
    """``next`` is the cursor of the next page, null on the last."""

    edit_jobs: list[EditJobDetail]
    next: str | None


class EditMethodDetail(BaseModel):
    """``config_schema`` is the JSON schema of the method's config, with units and sources."""

    name: str
    config_schema: dict[str, Any]


class EditMethodList(BaseModel):
    """The methods that workers have announced, by name."""

    edit_methods: list[EditMethodDetail]
