"""Shapes of `/corrections`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from registry.submissions import Submission
from registry.tables import Correction


class CorrectionReceipt(BaseModel):
    """``duplicate`` names the earlier correction of the same image with the same label, or with the
    same answer to the same question."""

    id: str
    status: Literal["accepted", "duplicate"]
    duplicate_of: str | None


class JobReceipt(BaseModel):
    """The edit job that takes the corrections."""

    id: str
    status: str


class CorrectionsAccepted(BaseModel):
    """Durable when answered: no crash loses it."""

    corrections: list[CorrectionReceipt]
    edit_job: JobReceipt

    @classmethod
    def of(cls, submission: Submission) -> CorrectionsAccepted:
        """The shape of what became of a submission."""
        job = submission.edit_job
        return cls(
            corrections=[
                CorrectionReceipt(id=one.id, status=one.status, duplicate_of=one.duplicate_of)
                for one in submission.corrections
            ],
            edit_job=JobReceipt(id=job.id, status=job.status),
        )


class CorrectionDetail(BaseModel):
    """``state``: pending, running, applied, rejected, failed, cancelled, superseded or forgotten.
    ``before`` and ``after`` are the answers of the encoder before and after its edit job. ``label``
    is "" where the right ``answer`` to the ``question`` does not say what the image shows."""

    id: str
    state: str
    label: str
    label_set: str | None
    predicted: str | None
    note: str | None
    question: str | None
    answer: str | None
    wrong_answer: str | None
    image_sha256: str | None
    edit_job: str
    superseded_by: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    created_at: datetime
    forgotten_at: datetime | None

    @classmethod
    def of(cls, row: Correction) -> CorrectionDetail:
        """The shape of a row that was read with its job."""
        return cls(
            id=row.id,
            state=row.state,
            label=row.label,
            label_set=row.label_set,
            predicted=row.predicted,
            note=row.note,
            question=row.question or None,
            answer=row.answer,
            wrong_answer=row.wrong_answer,
            image_sha256=row.image_sha256,
            edit_job=row.edit_job_id,
            superseded_by=row.superseded_by,
            before=row.before,
            after=row.after,
            created_at=row.created_at,
            forgotten_at=row.forgotten_at,
        )


class CorrectionPage(BaseModel):
    """``next`` is the cursor of the next page, null on the last."""

    corrections: list[CorrectionDetail]
    next: str | None
