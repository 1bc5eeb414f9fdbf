"""`/promotions`: which version is live, and was."""

from __future__ import annotations

from fastapi import APIRouter

from app.dependencies import Cursor, Limit, ServicesOf
from app.json_route import StrictJsonRoute
from app.promoting import promote_now
from app.schemas.promotions import PromotionDetail, PromotionPage, PromotionRequest
from registry.promotions import list_promotions
from registry.session import reading

router = APIRouter(prefix="/promotions", tags=["adapters"], route_class=StrictJsonRoute)


@router.post("", status_code=201)
def create_promotion(asked: PromotionRequest, services: ServicesOf) -> PromotionDetail:
    """Makes any version live; an earlier one is a rollback."""
    return promote_now(services, asked)


@router.get("")
def promotions(services: ServicesOf, cursor: Cursor = None, limit: Limit = 50) -> PromotionPage:
    """The history, newest first."""
    with reading(services.engine) as session:
        page = list_promotions(session, cursor=cursor, limit=limit)
    return PromotionPage(
        promotions=[PromotionDetail.of(row) for row in page.items], next=page.next_cursor
    )
