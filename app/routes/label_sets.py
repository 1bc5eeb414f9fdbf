"""`/label-sets`: named lists of possible answers."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter

from app.dependencies import ServicesOf
from app.json_route import StrictJsonRoute
from app.schemas.label_sets import LabelSetDetail, LabelSetList, LabelSetRequest
from app.vocabulary_limit import check_size
from encoder.classifier import check_templates
from registry.label_sets import get_label_set, list_label_sets, put_label_set
from registry.session import reading, transaction

router = APIRouter(prefix="/label-sets", tags=["label sets"], route_class=StrictJsonRoute)


@router.put("/{name}")
def define_label_set(name: str, asked: LabelSetRequest, services: ServicesOf) -> LabelSetDetail:
    """Makes a label set or replaces it. No templates means the encoder's own."""
    check_size(asked.labels, asked.templates or ())
    templates = check_templates(asked.templates) if asked.templates else ()
    with transaction(services.engine) as session:
        row = put_label_set(session, name, asked.labels, templates=templates, now=datetime.now(UTC))
        return LabelSetDetail.of(row)


@router.get("")
def label_sets(services: ServicesOf) -> LabelSetList:
    """Every label set, by name."""
    with reading(services.engine) as session:
        return LabelSetList(label_sets=[LabelSetDetail.of(row) for row in list_label_sets(session)])


@router.get("/{name}")
def label_set(name: str, services: ServicesOf) -> LabelSetDetail:
    """One label set."""
    with reading(services.engine) as session:
        return LabelSetDetail.of(get_label_set(session, name))
