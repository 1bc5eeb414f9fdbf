"""`/health` and `/metrics`: for those who operate the service."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.dependencies import ServicesOf
from app.schemas.health import Alive, Ready, VlmStanding

router = APIRouter(tags=["operate"])


@router.get("/health/live")
async def live() -> Alive:
    """The process answers."""
    return Alive(status="alive")


@router.get("/health/ready")
async def ready(services: ServicesOf) -> Ready:
    """Model and database answer; 503 with the reasons until they do, and for a replica that has not
    been able to serve the promoted version for a while."""
    version, encoder = services.readiness()
    vlm = services.vlm
    return Ready(
        status="ready",
        encoder=services.settings.encoder,
        encoder_digest=encoder.digest,
        live=version,
        promoted=services.encoder.promoted,
        vlm=None if vlm.name is None else VlmStanding(name=vlm.name, state=vlm.state),
    )


@router.get("/metrics", response_class=Response)
async def metrics(services: ServicesOf) -> Response:
    """Counters and gauges in Prometheus' text format; answers without the database too."""
    text = services.metrics.render(await services.vital_signs.metrics())
    return Response(text, media_type=CONTENT_TYPE_LATEST)
