"""What the first start records, and what is not there before it."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.errors import NotReady
from encoder.adapter import empty_adapter
from encoder.clip import Encoder
from registry.adapters import ensure_base, get_adapter
from registry.artifacts import ArtifactStore
from registry.errors import AdapterMissing
from registry.promotions import live_promotion
from registry.session import transaction
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


def record_base(engine: Engine, store: ArtifactStore, base: Encoder) -> None:
    """Makes it version 0 of an empty registry, live; nothing happens where it is already.

    Raises `BaseMismatch` for the registry of another encoder.
    """
    with transaction(engine) as session:
        ensure_base(
            session,
            store,
            name=base.name,
            pretrained=base.pretrained,
            base_digest=base.base_digest,
            empty_adapter=empty_adapter(base.name, base.pretrained, base.base_digest),
            now=datetime.now(UTC),
        )
