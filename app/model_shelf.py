"""The models that may be asked: the one over the live version, and over each of the others."""

from __future__ import annotations

from datetime import UTC, datetime

from app.chat_request import version_of_model
from app.errors import VlmAbsent
from app.schemas.chat import Model, ModelList
from app.services import Services
from registry.adapters import get_adapter, list_adapters
from registry.promotions import live_promotion
from registry.session import reading

NEWEST = 20


def model_list(services: Services) -> ModelList:
    """None where there is no vision-language model. Raises `VlmLoading`, `VlmUnusable`."""
    try:
        name = services.answers.model().name
    except VlmAbsent:
        return ModelList(data=[])
    with reading(services.engine) as session:
        live = Model(id=name, created=_seconds(live_promotion(session).created_at))
        newest = [
            Model(id=f"{name}@{row.version}", created=_seconds(row.created_at))
            for row in list_adapters(session, limit=NEWEST).items
        ]
    return ModelList(data=[live, *newest])


def named_model(services: Services, model: str) -> Model:
    """Raises `VlmAbsent`, `VlmLoading`, `VlmUnusable`, `ModelUnknown`, `AdapterMissing`."""
    version = version_of_model(model, services.answers.model().name)
    with reading(services.engine) as session:
        if version is None:
            at = live_promotion(session).created_at
        else:
            at = get_adapter(session, version).created_at
    return Model(id=model, created=_seconds(at))


def _seconds(at: datetime) -> int:
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp())
