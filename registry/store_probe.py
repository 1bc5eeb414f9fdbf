"""Whether files can be stored, asked before a process starts."""

from __future__ import annotations

import logging
import uuid

from registry.artifacts import ArtifactStore
from registry.errors import StorageFull

log = logging.getLogger(__name__)


def check_store(store: ArtifactStore) -> None:
    """Stores a few bytes and removes them. Raises StorageUnavailable.

    A full disk is only logged: what is stored can still be served, and space may come back.
    """
    try:
        store.delete(store.put(f"can this be stored? {uuid.uuid4()}".encode()))
    except StorageFull as full:
        log.error("nothing can be stored at present: %s", full)
