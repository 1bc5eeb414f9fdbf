"""Versions as the contract describes them: a row, its corrections and its promotions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.base_row import live_promotion_of
from app.schemas.adapters import AdapterDetail, AdapterPage
from app.services import Services
from app.uploads import version_of
from encoder.adapter import Adapter, adapter_digest
from encoder.pool import BASE_VERSION
from encoder.vlm.hf_deltas import hf_deltas
from registry.adapters import correction_counts, get_adapter, list_adapters
from registry.promotions import find_live_promotion, promotions_of
from registry.session import reading
from registry.tables import AdapterRecord


def find_version(session: Session, reference: str) -> int:
    """The number that a path means. Raises `FieldInvalid`, `AdapterMissing`."""
    version = version_of(reference)
    return live_promotion_of(session).version if version is None else version


def describe(
    session: Session, rows: Sequence[AdapterRecord], *, base_bytes: int | None
) -> list[AdapterDetail]:
    """Each version in full, in order, with as many queries for many as for one."""
    versions = [row.version for row in rows]
    counts = correction_counts(session, versions)
    promotions = promotions_of(session, versions)
    live = find_live_promotion(session)
    return [
        AdapterDetail.of(
            row,
            base_bytes=base_bytes,
            corrections=counts[row.version],
            live=live is not None and live.version == row.version,
            promotions=promotions[row.version],
        )
        for row in rows
    ]


def served_detail(services: Services, reference: str) -> AdapterDetail:
    """A version in full; if it is told to be live, it answers here by now.

    Raises `FieldInvalid`, `AdapterMissing`.
    """
    with reading(services.engine) as session:
        row = get_adapter(session, find_version(session, reference))
        detail = describe(session, [row], base_bytes=services.encoder.base_bytes)[0]
    services.encoder.catch_up()
    return detail


def weights_file(services: Services, row: AdapterRecord, names: str) -> tuple[bytes, str]:
    """A version's file and its sha256: as it is stored, or under the names of `transformers`.

    Raises `ArtifactMissing`, `ArtifactCorrupt`, and for other names `NotReady`, `NamesUnmappable`.
    """
    stored = services.store.get(row.digest)
    if names == "open_clip":
        return stored, row.digest
    adapter = Adapter.from_bytes(stored)
    base = services.encoder.pool.get(BASE_VERSION)
    data = Adapter(hf_deltas(base, adapter.deltas), adapter.provenance).to_bytes()
    return data, adapter_digest(data)


def page_of_adapters(
    session: Session, cursor: str | None, limit: int, *, base_bytes: int | None
) -> AdapterPage:
    """One page of versions, newest first. Raises `CursorInvalid`."""
    page = list_adapters(session, cursor=cursor, limit=limit)
    return AdapterPage(
        adapters=describe(session, page.items, base_bytes=base_bytes), next=page.next_cursor
    )
