"""The whole store against the database, and the database's own chains: what a restore must pass.

It may run while the service does: what is found wrong is looked at once more before it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, exists, func, select
from sqlalchemy.orm import Session

from registry.artifacts import ArtifactStore
from registry.backup import THREADS, artifact_pages
from registry.errors import ArtifactCorrupt, ArtifactMissing
from registry.found_file import FoundFile
from registry.named_files import NAMED_BY, is_named
from registry.session import reading
from registry.strays import folders_in_use, unrecorded
from registry.tables import AdapterRecord, Artifact, Promotion


@dataclass(frozen=True)
class Finding:
    """`kind` is missing, damaged, size, record, adapter, lineage or promotion."""

    kind: str
    subject: str
    detail: str


@dataclass
class Verification:
    """`strays` are files that no row has on record, young ones too: no finding in themselves."""

    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    strays: list[FoundFile] = field(default_factory=list)


def verify(
    engine: Engine,
    store: ArtifactStore,
    *,
    threads: int = THREADS,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Verification:
    """Reads every named file; `progress(done, all)` is called now and then.

    Raises DatabaseUnavailable, StorageUnavailable.
    """
    found = Verification()
    with reading(engine) as session:
        total = session.scalars(select(func.count()).select_from(Artifact)).one()
    with ThreadPoolExecutor(threads) as pool:
        for rows in artifact_pages(engine, only_named=True):
            for finding in pool.map(lambda row: _look_at(engine, store, row), rows):
                found.findings += [finding] if finding else []
            found.files += len(rows)
            found.bytes += sum(row.bytes for row in rows)
            progress(found.files, total)
    with reading(engine) as session:
        found.findings += [*_without_record(session), *_adapters(session), *_promotions(session)]
    for folder in folders_in_use(store):
        files = store.files(folder)
        with reading(engine) as session:
            found.strays += unrecorded(session, files)
    return found


def _look_at(engine: Engine, store: ArtifactStore, row: Artifact) -> Finding | None:
    try:
        size = len(store.get(row.sha256))
    except ArtifactMissing:
        with reading(engine) as session:
            if not is_named(session, row.sha256):  # released meanwhile
                return None
        return Finding("missing", row.sha256, "a row names the file and it is not in the store")
    except ArtifactCorrupt as damage:
        return Finding("damaged", row.sha256, f"the file has the checksum {damage.found}")
    if size != row.bytes:
        return Finding("size", row.sha256, f"the row says {row.bytes} bytes, the file has {size}")
    return None


def _without_record(session: Session) -> Iterator[Finding]:
    for column in NAMED_BY:
        recorded = exists().where(Artifact.sha256 == column)
        query: Any = select(column).where(column.is_not(None), ~recorded).distinct()
        for sha256 in session.scalars(query):
            yield Finding("record", sha256, f"{column} names a file that is not on record")


def _adapters(session: Session) -> Iterator[Finding]:
    sizes = select(AdapterRecord.version, AdapterRecord.bytes, Artifact.bytes).join(
        Artifact, Artifact.sha256 == AdapterRecord.digest
    )
    for version, said, kept in session.execute(sizes.where(AdapterRecord.bytes != Artifact.bytes)):
        detail = f"the version says {said} bytes, its file's record {kept}"
        yield Finding("adapter", str(version), detail)
    links = select(AdapterRecord.version, AdapterRecord.parent, AdapterRecord.stacked_on)
    rows = session.execute(links.order_by(AdapterRecord.version)).all()
    versions = {version for version, _, _ in rows}
    for version, parent, stacked_on in rows:
        if (version == 0) != (parent is None):
            yield Finding("lineage", str(version), f"its parent is {parent}")
        for link, name in ((parent, "its parent"), (stacked_on, "the version beneath it")):
            if link is not None and (link not in versions or link >= version):
                yield Finding("lineage", str(version), f"{name}, {link}, is no earlier version")


def _promotions(session: Session) -> Iterator[Finding]:
    versions = set(session.scalars(select(AdapterRecord.version)))
    links = select(Promotion.id, Promotion.replaces, Promotion.version).order_by(Promotion.id)
    before: int | None = None
    for id_, replaces, version in session.execute(links):
        if id_ != (before or 0) + 1 or replaces != before:
            detail = f"it replaces {replaces} and comes after {before}"
            yield Finding("promotion", str(id_), detail)
        if version not in versions:
            yield Finding("promotion", str(id_), f"there is no version {version}")
        before = id_
    if versions and before is None:
        yield Finding("promotion", "live", "no version was ever made live")
