"""What the first start records, and what is not there before it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.errors import NotReady
from registry.adapters import get_adapter
from registry.errors import AdapterMissing
from registry.promotions import live_promotion
from registry.tables import Promotion

FIRST_START = "the encoder is being loaded for the first time"


def base_digest_of(session: Session) -> str:
    """Digest of the base encoder of this data, known even while the model is loaded.

    Raises `NotReady` before its first start.
    """
    try:
        return get_adapter(session, 0).base_digest
    except AdapterMissing as error:
        raise NotReady(FIRST_START) from error


def live_promotion_of(session: Session) -> Promotion:
    """The last promotion. Raises `NotReady` before the first start."""
    try:
        return live_promotion(session)
    except AdapterMissing as error:
        raise NotReady(FIRST_START) from error
