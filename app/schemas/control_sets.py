"""Shapes of `/control-sets`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from registry.control_sets import ControlCounts
from registry.tables import ControlSet


class ControlSetRequest(BaseModel):
    """``label_set``: what its images are classified as; null for a set that only asks questions.
    ``budget``: points of accuracy, or of right answers, that the set may lose, or percent of
    answers that may flip where nobody said what is right; null means the service's own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"label_set": "everyday", "budget": 0.5}]},
    )

    label_set: str | None = None
    budget: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None


class ControlSetDetail(BaseModel):
    """``images`` counts the images that are classified, ``labelled`` those that have a label,
    ``questions`` the questions asked about images, ``answered`` those whose answer is known."""

    name: str
    label_set: str | None
    budget: float | None
    images: int
    labelled: int
    questions: int
    answered: int
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
            questions=counts.questions,
            answered=counts.answered,
            created_at=row.created_at,
        )


class ControlSetList(BaseModel):
    """Every control set, by name."""

    control_sets: list[ControlSetDetail]


class ControlImagesAdded(BaseModel):
    """What became of the images of one request, or of the questions about them; a duplicate was in
    the set before."""

    added: int
    duplicates: int
    control_set: ControlSetDetail
