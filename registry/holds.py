"""Times in which nothing is removed from a store: while a backup copies it, and while many files
are put that rows will name once all are there.

They are written down in the store itself, each under a holder of its own, by whoever has the turn.
Releases look at them in their turn, so none is half done when a hold begins. A hold ends by itself,
should its holder never do so.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from registry.artifacts import ArtifactStore
from registry.errors import StoreHeld
from registry.session import take_turn

BACKUP = "backup"
UPLOAD = "upload"


def begin_backup(session: Session, store: ArtifactStore, *, now: datetime, hold: timedelta) -> str:
    """`begin_hold` for a backup. Raises StoreHeld while there is another."""
    take_turn(session)
    for holder, until in store.holds().items():
        if _is_backup(holder) and until > now:
            raise StoreHeld(until)
    return begin_hold(session, store, BACKUP, now=now, hold=hold)


def begin_hold(
    session: Session, store: ArtifactStore, kind: str, *, now: datetime, hold: timedelta
) -> str:
    """Nothing is removed from the store from now on; returns the holder, for `end_hold`.

    Raises StorageFull, StorageUnavailable.
    """
    take_turn(session)
    holder = f"{kind}-{uuid.uuid4().hex}"
    others = {other: until for other, until in store.holds().items() if until > now}
    store.set_holds(others | {holder: now + hold})
    return holder


def end_hold(session: Session, store: ArtifactStore, holder: str) -> bool:
    """Whether it had held until now; others go on. Raises StorageFull, StorageUnavailable."""
    take_turn(session)
    return _end(store, {holder})


def end_backups(session: Session, store: ArtifactStore) -> bool:
    """Ends the hold of whatever backup; whether there was one. Raises as `end_hold`."""
    take_turn(session)
    return _end(store, set(filter(_is_backup, store.holds())))


def _is_backup(holder: str) -> bool:
    return holder.startswith(BACKUP)


def _end(store: ArtifactStore, holders: set[str]) -> bool:
    holds = store.holds()
    ended = [holds.pop(holder) for holder in holders if holder in holds]
    if ended:
        store.set_holds(holds)
    return any(until > datetime.now(UTC) for until in ended)
