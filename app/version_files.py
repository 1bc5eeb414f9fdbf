"""What a version is merged from: its snapshot, if one can be used, and adapters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Engine

from encoder.adapter import Adapter
from encoder.clip import Link
from encoder.errors import SnapshotError
from encoder.snapshot import Snapshot
from registry.artifacts import ArtifactStore
from registry.errors import ArtifactCorrupt, ArtifactMissing
from registry.session import reading
from registry.snapshots import StoredFile, chain

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionFiles:
    """Reads files one at a time, as they are merged."""

    engine: Engine
    store: ArtifactStore
    base_digest: str

    def links(self, version: int) -> Iterator[Link]:
        """In the order of merging. A snapshot that cannot be used is only a longer way.

        Raises encoder.errors.AdapterError, AdapterMissing, ArtifactMissing, ArtifactCorrupt,
        StorageUnavailable, DatabaseUnavailable.
        """
        snapshot, adapters = self._nearest(version)
        if snapshot is not None:
            yield snapshot
        for file in adapters:
            yield Adapter.from_bytes(self.store.get(file.digest), digest=file.digest)

    def _nearest(self, version: int) -> tuple[Snapshot | None, tuple[StoredFile, ...]]:
        """The nearest snapshot that can be used, and the adapters above it."""
        unusable: list[str] = []
        while True:
            with reading(self.engine) as session:
                files = chain(session, version, without=unusable)
            if files.snapshot is None:
                return None, files.adapters
            snapshot = self._read(files.snapshot)
            if snapshot is not None:
                return snapshot, files.adapters
            unusable.append(files.snapshot.digest)

    def _read(self, file: StoredFile) -> Snapshot | None:
        try:
            data = self.store.get(file.digest)
            return Snapshot.from_bytes(data, digest=file.digest, base_digest=self.base_digest)
        except (SnapshotError, ArtifactMissing, ArtifactCorrupt) as error:
            logger.warning("version %d is merged without its snapshot: %s", file.version, error)
            return None
