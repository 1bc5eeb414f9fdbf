"""An artifact store in trouble: real errors of the file system, for root too."""

from __future__ import annotations

from pathlib import Path

from registry.artifacts import ArtifactStore


def block(store: ArtifactStore, sha256: str) -> None:
    """Makes reading a stored file an OSError: a folder stands in its place."""
    path = _path(store, sha256)
    path.rename(path.with_suffix(".aside"))
    path.mkdir()


def unblock(store: ArtifactStore, sha256: str) -> None:
    """Puts the file back."""
    path = _path(store, sha256)
    path.rmdir()
    path.with_suffix(".aside").rename(path)


def _path(store: ArtifactStore, sha256: str) -> Path:
    return Path(store.url) / sha256[:2] / sha256
