"""Versions as a worker loads them; a snapshot that turns out to be unusable goes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from encoder.adapter import Adapter
from encoder.clip import Encoder, Link
from encoder.errors import SnapshotError
from encoder.snapshot import Snapshot
from registry.artifacts import release_artifacts
from registry.errors import ArtifactCorrupt, ArtifactMissing
from registry.session import reading, transaction
from registry.snapshots import Chain, StoredFile, chain, drop_snapshots
from worker.workshop import Workshop

log = logging.getLogger(__name__)


def load_version(workshop: Workshop, version: int) -> Encoder:
    """The encoder of a version.

    Raises encoder.errors.AdapterError, AdapterMissing, ArtifactMissing, ArtifactCorrupt,
    StorageUnavailable, DatabaseUnavailable.
    """
    return workshop.base.merged(links(workshop, version))


def links(workshop: Workshop, version: int) -> Iterator[Link]:
    """What a version is merged from, read one at a time. Raises as `load_version`."""
    snapshot, files = None, _files_of(workshop, version)
    while files.snapshot is not None and snapshot is None:
        snapshot = _read_or_drop(workshop, files.snapshot)
        if snapshot is None:
            files = _files_of(workshop, version)
    if snapshot is not None:
        yield snapshot
    for file in files.adapters:
        yield Adapter.from_bytes(workshop.store.get(file.digest), digest=file.digest)


def _files_of(workshop: Workshop, version: int) -> Chain:
    with reading(workshop.engine) as session:
        return chain(session, version)


def _read_or_drop(workshop: Workshop, file: StoredFile) -> Snapshot | None:
    """A snapshot that cannot be used is dropped, so that an idle worker makes it again."""
    base_digest = workshop.base.base_digest
    try:
        data = workshop.store.get(file.digest)
        return Snapshot.from_bytes(data, digest=file.digest, base_digest=base_digest)
    except (SnapshotError, ArtifactMissing, ArtifactCorrupt) as error:
        log.warning("the snapshot of version %d is dropped: %s", file.version, error)
    let_go(workshop, [file.digest])
    return None


def let_go(workshop: Workshop, digests: list[str]) -> None:
    """Drops snapshots and their files."""
    with transaction(workshop.engine) as session:
        dropped = drop_snapshots(session, digests)
    with transaction(workshop.engine) as session:
        release_artifacts(session, workshop.store, dropped)
