"""Makes a version live: built first, recorded next, served at once."""

from __future__ import annotations

from datetime import UTC, datetime

from app.base_row import live_promotion_of
from app.errors import LiveMoved
from app.schemas.promotions import PromotionDetail, PromotionRequest
from app.services import Services
from registry.promotions import promote
from registry.session import reading, transaction


def promote_now(services: Services, asked: PromotionRequest) -> PromotionDetail:
    """Serves ``asked.version`` in this process when it returns, in every other within a second.

    The version is built before it is recorded, so one that cannot be served never becomes live.
    Of two callers who saw the same live version, the second is refused.
    Raises `NotReady`, `AdapterMissing`, `LiveMoved`, `PromotionConflict`.
    """
    with reading(services.engine) as session:
        live = live_promotion_of(session)
    if asked.expected_live not in (None, live.version):
        raise LiveMoved(asked.expected_live, live.version)
    services.encoder.prepare(asked.version)
    with transaction(services.engine) as session:
        promotion = promote(
            session, asked.version, replaces=live.id, reason=asked.reason, now=datetime.now(UTC)
        )
    services.encoder.serve(promotion)
    return PromotionDetail.of(promotion)
