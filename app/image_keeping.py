"""Stores images together with the rows that name them, so that neither is there without the other.

Files live outside the database's transactions: they are put first and recorded in the transaction
that names them. A file that another request released in between is put once more; when the
transaction is refused, files that nothing names are removed again, if the database lets us.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from encoder.images import image_media_type
from registry.artifacts import ArtifactStore, PutFile, discard_unkept, keep_artifacts
from registry.batches import AT_ONCE, batches
from registry.errors import ArtifactMissing, DatabaseUnavailable, RegistryError, StorageUnavailable
from registry.holds import UPLOAD, begin_hold, end_hold
from registry.patience import running_clock
from registry.session import transaction

logger = logging.getLogger(__name__)
T = TypeVar("T")
HOLD = timedelta(hours=1)
"""Longer than any request takes to put its images, whatever the clocks say."""


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
        with _held(engine, store, len(images)) as holder:
            _put(store, images)
            try:
                outcome = _write(engine, store, images, digests, write, holder)
            except ArtifactMissing:
                _put(store, images)
                outcome = _write(engine, store, images, digests, write, holder)
        settled = True
        return outcome
    except (DatabaseUnavailable, StorageUnavailable):
        settled = True  # it would not answer now either: the files are orphans, to be collected
        raise
    finally:
        if not settled:
            _discard(engine, store, digests)


def _put(store: ArtifactStore, images: Sequence[bytes]) -> None:
    """However many there are: each that is stored gives the request its whole time again, unless
    that is over."""
    clock = running_clock()

    def put(image: bytes) -> None:
        store.put(image)
        if clock is not None and (clock.left or 0) > 0:
            clock.restart()

    store.each(put, images)


@contextmanager
def _held(engine: Engine, store: ArtifactStore, count: int) -> Iterator[str | None]:
    """Where asking for each file once more would let all other writers wait too long, none is
    removed meanwhile."""
    if not store.is_remote or count <= AT_ONCE:
        yield None
        return
    with transaction(engine) as session:
        holder = begin_hold(session, store, UPLOAD, now=datetime.now(UTC), hold=HOLD)
    try:
        yield holder
    finally:
        _end(engine, store, holder)


def _end(engine: Engine, store: ArtifactStore, holder: str) -> None:
    try:
        with transaction(engine) as session:
            end_hold(session, store, holder)
    except RegistryError as error:
        logger.warning("no file is removed for up to %s: %s", HOLD, error)


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
    holder: str | None,
) -> T:
    now = datetime.now(UTC)
    with transaction(engine) as session:
        files = [
            PutFile(digest, len(image), image_media_type(image))
            for image, digest in zip(images, digests, strict=True)
        ]
        keep_artifacts(session, store, files, now=now, holder=holder)
        return write(session, digests)
