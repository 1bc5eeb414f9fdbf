"""Files in the store that no row has on record: put, and then the process died.

A file that was put and is not named yet looks the same, so only those are strays that nobody wrote
for a while; storing a file again makes it new. Removing takes turns with `keep_artifact`, which
finds the file missing if it comes too late: then it is put once more, and nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.artifacts import ArtifactStore
from registry.batches import batches
from registry.found_file import FoundFile
from registry.local_folder import INCOMING
from registry.session import take_turn
from registry.tables import Artifact

GRACE = timedelta(hours=24)
"""Longer than anything takes to name what it put, whatever the clocks say."""
FOLDERS = (INCOMING, *(f"{number:02x}" for number in range(256)))
"""All that files stand in."""
_STORED = re.compile(r"(?P<folder>[0-9a-f]{2})/(?P<sha256>(?P=folder)[0-9a-f]{62})")


def folders_in_use(store: ArtifactStore) -> list[str]:
    """Those of `FOLDERS` that there are: others, as a disk's `lost+found`, may be closed to us.

    Raises StorageUnavailable.
    """
    return [folder for folder in store.folders() if folder in FOLDERS]


def stray_files(
    session: Session,
    store: ArtifactStore,
    folder: str,
    *,
    now: datetime,
    older_than: timedelta = GRACE,
) -> list[FoundFile]:
    """Those of one folder that were last written so long ago. Raises StorageUnavailable.

    Files that the store did not name itself are none of its business, except in `incoming`: there
    the grace is never less, because who writes a file aside could not go on without it.
    """
    before = now - (max(older_than, GRACE) if folder == INCOMING else older_than)
    old = [file for file in store.files(folder) if file.modified and file.modified < before]
    return unrecorded(session, old)


def unrecorded(session: Session, files: Iterable[FoundFile]) -> list[FoundFile]:
    """Those that no row has on record: files by hash, and what a crash left half written."""
    strays, by_hash = [], {}
    for file in files:
        if file.name.startswith(f"{INCOMING}/"):
            strays.append(file)
        elif sha256 := sha256_of(file):
            by_hash[sha256] = file
    for some in batches(sorted(by_hash)):
        query = select(Artifact.sha256).where(Artifact.sha256.in_(some))
        recorded = set(session.scalars(query))
        strays += [by_hash[sha256] for sha256 in some if sha256 not in recorded]
    return strays


def remove_strays(
    session: Session, store: ArtifactStore, strays: Iterable[FoundFile]
) -> list[FoundFile]:
    """Removes those that are still on no record; returns which. None while the store is held.

    In a transaction of its own, and for many files in several: other writers wait meanwhile.
    Raises StorageUnavailable.
    """
    take_turn(session)
    if store.is_held():
        return []
    removed = unrecorded(session, strays)
    store.each(store.remove, [file.name for file in removed])
    return removed


def sha256_of(file: FoundFile) -> str | None:
    """None for a file that the store did not name."""
    match = _STORED.fullmatch(file.name)
    return match["sha256"] if match else None
