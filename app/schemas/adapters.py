"""Shapes of `/adapters`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from app.schemas.promotions import PromotionDetail
from registry.tables import AdapterRecord, Promotion


class BaseEncoder(BaseModel):
    """The frozen encoder that the adapter changes; ``bytes`` of its weights in memory, null while
    it is being loaded."""

    name: str
    pretrained: str | None
    digest: str
    bytes: int | None


class AdapterDetail(BaseModel):
    """``digest`` is the sha256 of the file of weights, ``bytes`` its size, ``parameters`` how many
    numbers were trained, ``corrections`` how many it was fitted on, ``strength`` how much of the
    trained change it holds."""

    version: int
    parent: int | None
    method: str
    config: dict[str, Any]
    seed: int
    base: BaseEncoder
    digest: str
    bytes: int
    parameters: int
    strength: float
    created_at: datetime
    corrections: int
    edit_job: str | None
    report: dict[str, Any] | None
    live: bool
    promotions: list[PromotionDetail]

    @classmethod
    def of(
        cls,
        row: AdapterRecord,
        *,
        base_bytes: int | None,
        corrections: int,
        live: bool,
        promotions: Sequence[Promotion],
    ) -> AdapterDetail:
        """The shape of a row and of what stands in other tables about it."""
        return cls(
            version=row.version,
            parent=row.parent,
            method=row.method,
            config=row.config,
            seed=row.seed,
            base=BaseEncoder(
                name=row.base_name,
                pretrained=row.base_pretrained,
                digest=row.base_digest,
                bytes=base_bytes,
            ),
            digest=row.digest,
            bytes=row.bytes,
            parameters=row.parameters,
            strength=row.strength,
            created_at=row.created_at,
            corrections=corrections,
            edit_job=row.edit_job_id,
            report=row.report,
            live=live,
            promotions=[PromotionDetail.of(promotion) for promotion in promotions],
        )


class AdapterPage(BaseModel):
    """``next`` is the cursor of the next page, null on the last."""

    adapters: list[AdapterDetail]
    next: str | None
