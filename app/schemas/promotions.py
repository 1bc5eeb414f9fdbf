"""Shapes of `/promotions`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from registry.tables import Promotion


class PromotionRequest(BaseModel):
    """``expected_live``, when given, must be the version that is live: who decided by an older
    look is refused."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"version": 0, "reason": "roll back to the base"}]},
    )

    version: Annotated[int, Field(ge=0, le=999_999_999, strict=True)]
    reason: Annotated[str, Field(max_length=1000)] = ""
    expected_live: Annotated[int, Field(ge=0, le=999_999_999, strict=True)] | None = None


class PromotionDetail(BaseModel):
    """``replaces`` is the id of the promotion before it, null for the first."""

    id: int
    version: int
    replaces: int | None
    reason: str
    edit_job: str | None
    created_at: datetime

    @classmethod
    def of(cls, row: Promotion) -> PromotionDetail:
        """The shape of a row."""
        return cls(
            id=row.id,
            version=row.version,
            replaces=row.replaces,
            reason=row.reason,
            edit_job=row.edit_job_id,
            created_at=row.created_at,
        )


class PromotionPage(BaseModel):
    """Newest first; ``next`` is the cursor of the next page, null on the last."""

    promotions: list[PromotionDetail]
    next: str | None
