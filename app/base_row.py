"""The base encoder as the registry has it, which is known even while the model is loaded."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.errors import NotReady
from registry.adapters import get_adapter
from registry.errors import AdapterMissing


def base_digest_of(session: Session) -> str:
    """Digest of the base encoder of this data. Raises `NotReady` before its first start."""
    try:
        return get_adapter(session, 0).base_digest
    except AdapterMissing as error:
        raise NotReady("the encoder is being loaded for the first time") from error
