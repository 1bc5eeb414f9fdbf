"""Stores images together with the rows that name them, so that neither is there without the other.

Files live outside the database's transactions: they are put first and recorded in the transaction
that names them. A file that another request released in between is put once more; when the
transaction is refused, files that nothing names are removed again, if the database lets us.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from encoder.images import image_media_type
from registry.artifacts import ArtifactStore, PutFile, discard_unkept, keep_artifacts
from registry.batches import batches
from registry.errors import ArtifactMissing, DatabaseUnavailable, RegistryError, StorageUnavailable
from registry.session import transaction

logger = logging.getLogger(__name__)
T = TypeVar("T")


def write_with_images(
    engine: Engine,
    store: ArtifactStore,
    images: Sequence[bytes],
    write: Callable[[Session, list[str]], T],
) -> T:
    """Runs ``write(session, digests)`` in one transaction in which the images are on record.

    Durable once it returns; nothing is on record when it raises, which is whatever ``write``
    raises, or `StorageFull`, `StorageUnavailable`, `DatabaseUnavailable`.
    """
    digests = [hashlib.sha256(image).hexdigest() for image in images]
    settled = False
    try:
        store.each(store.put, images)
        try:
            outcome = _write(engine, store, images, digests, write)
        except ArtifactMissing:
            store.each(store.put, images)
            outcome = _write(engine, store, images, digests, write)
        settled = True
        return outcome
    except (DatabaseUnavailable, StorageUnavailable):
        settled = True  # it would not answer now either: the files are orphans, to be collected
        raise
    finally:
        if not settled:
            _discard(engine, store, digests)


def _discard(engine: Engine, store: ArtifactStore, digests: list[str]) -> None:
    """What cannot be removed now is an orphan too; the error that led here is the one to tell."""
    try:
        for some in batches(digests):
            with transaction(engine) as session:
                discard_unkept(session, store, some)
    except RegistryError as error:
        logger.warning("%d files may be left that nothing names: %s", len(digests), error)


def _write(
    engine: Engine,
    store: ArtifactStore,
    images: Sequence[bytes],
    digests: list[str],
    write: Callable[[Session, list[str]], T],
) -> T:
    now = datetime.now(UTC)
    with transaction(engine) as session:
        files = [
            PutFile(digest, len(image), image_media_type(image))
            for image, digest in zip(images, digests, strict=True)
        ]
        keep_artifacts(session, store, files, now=now)
        return write(session, digests)
