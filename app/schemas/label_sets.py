"""Shapes of `/label-sets`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from registry.tables import LabelSet

# Of a million items that are no text the first is told of.
Texts = Annotated[list[str], Field(fail_fast=True)]


class LabelSetRequest(BaseModel):
    """Ordered labels, and prompt templates with one ``{}`` each; none means the default ones."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"labels": ["stop", "yield"], "templates": ["a photo of a {} sign."]}]
        },
    )

    labels: Texts
    templates: Texts | None = None


class LabelSetDetail(BaseModel):
    """A named list of possible answers."""

    name: str
    labels: list[str]
    templates: list[str]
    updated_at: datetime

    @classmethod
    def of(cls, row: LabelSet) -> LabelSetDetail:
        """The shape of a row."""
        return cls(
            name=row.name, labels=row.labels, templates=row.templates, updated_at=row.updated_at
        )


class LabelSetList(BaseModel):
    """Every label set, by name."""

    label_sets: list[LabelSetDetail]
