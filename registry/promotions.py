"""Which version serves. History is appended, never changed; the newest promotion is live."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry.errors import AdapterMissing, PromotionConflict
from registry.pages import Page, number_cursor, page_of, page_size
from registry.tables import AdapterRecord, Promotion


def find_live_promotion(session: Session) -> Promotion | None:
    """None only in a database that `ensure_base` has not seen."""
    return session.scalar(select(Promotion).order_by(Promotion.id.desc()).limit(1))


def live_promotion(session: Session) -> Promotion:
    """The promotion that serves. Raises AdapterMissing before `ensure_base`."""
    live = find_live_promotion(session)
    if live is None:
        raise AdapterMissing("live")
    return live


def promote(
    session: Session,
    version: int,
    *,
    replaces: int,
    reason: str,
    edit_job_id: str | None = None,
    now: datetime,
) -> Promotion:
    """Make a version live. `replaces` is the id of the promotion the caller saw live.

    Of two parallel callers exactly one wins, whatever the isolation level: a promotion's id is
    `replaces + 1`. Raises PromotionConflict, AdapterMissing.
    """
    if session.get(AdapterRecord, version) is None:
        raise AdapterMissing(version)
    live = live_promotion(session)
    if live.id != replaces:
        raise PromotionConflict(expected=replaces, found=live.id)
    promotion = Promotion(
        id=replaces + 1,
        version=version,
        replaces=replaces,
        reason=reason,
        edit_job_id=edit_job_id,
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(promotion)
    except IntegrityError as refused:
        found = find_live_promotion(session)
        raise PromotionConflict(expected=replaces, found=found.id if found else None) from refused
    return promotion


def list_promotions(
    session: Session, *, cursor: str | None = None, limit: int = 50
) -> Page[Promotion]:
    """Newest first. Raises CursorInvalid."""
    limit = page_size(limit)
    query = select(Promotion).order_by(Promotion.id.desc()).limit(limit + 1)
    if (number := number_cursor(cursor)) is not None:
        query = query.where(Promotion.id < number)
    return page_of(session.scalars(query).all(), limit, lambda promotion: promotion.id)


def promotions_of(session: Session, versions: Iterable[int]) -> dict[int, list[Promotion]]:
    """The promotions of each version, oldest first; every version asked for is a key."""
    found: dict[int, list[Promotion]] = {version: [] for version in versions}
    query = select(Promotion).where(Promotion.version.in_(list(found))).order_by(Promotion.id)
    for promotion in session.scalars(query):
        found[promotion.version].append(promotion)
    return found
