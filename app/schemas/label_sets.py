"""Shapes of `/label-sets`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from registry.tables import LabelSet


class LabelSetRequest(BaseModel):
    """Ordered labels, and prompt templates with one ``{}`` each; none means the default ones."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"labels": ["stop", "yield"], "templates": ["a photo of a {} sign."]}]
        },
    )

    labels: list[str]
    templates: list[str] | None = None


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
