"""Shapes of `/control-sets`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from registry.control_sets import ControlCounts
from registry.tables import ControlSet


class ControlSetRequest(BaseModel):
    """``budget``: accuracy points the set may lose, or percent of answers that may flip where its
    images have no labels; null means the service's own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"label_set": "everyday", "budget": 0.5}]},
    )

    label_set: str
    budget: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None


class ControlSetDetail(BaseModel):
    """``images`` counts its images, ``labelled`` those that have a label."""

    name: str
    label_set: str
    budget: float | None
    images: int
    labelled: int
    created_at: datetime

    @classmethod
    def of(cls, row: ControlSet, counts: ControlCounts) -> ControlSetDetail:
        """The shape of a row and its counts."""
        return cls(
            name=row.name,
            label_set=row.label_set,
            budget=row.budget,
            images=counts.images,
            labelled=counts.labelled,
            created_at=row.created_at,
        )


class ControlSetList(BaseModel):
    """Every control set, by name."""

    control_sets: list[ControlSetDetail]


class ControlImagesAdded(BaseModel):
    """What became of the images of one request; a duplicate was in the set before."""

    added: int
    duplicates: int
    control_set: ControlSetDetail
