"""What is left after a storm: rows, files and answers, gathered without judging them.

Plain values, so that an auditor can be given a history that never happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine, select
from sqlalchemy.orm import joinedload

from chaos.caller import Caller, Reply
from chaos.stack import Stack
from registry.artifacts import ArtifactStore
from registry.session import open_database, reading
from registry.tables import (
    AdapterCorrection,
    AdapterRecord,
    Correction,
    EditJob,
    Promotion,
)
from registry.verification import verify


@dataclass(frozen=True)
class CorrectionFacts:
    id: str
    image: str | None
    label: str
    job: str
    state: str
    superseded_by: str | None


@dataclass(frozen=True)
class JobFacts:
    """`reason` is what the report or the error says."""

    id: str
    status: str
    adapter: int | None
    reason: str | None
    cancel_requested: bool = False


@dataclass(frozen=True)
class VersionFacts:
    version: int
    parent: int | None
    digest: str
    job: str | None
    corrections: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PromotionFacts:
    id: int
    version: int
    replaces: int | None
    job: str | None
    at: float


@dataclass(frozen=True)
class Evidence:
    """`damaged` are sentences about files; `told` is what an API says of each correction, as
    (status, state, label)."""

    corrections: Mapping[str, CorrectionFacts]
    jobs: Mapping[str, JobFacts]
    versions: tuple[VersionFacts, ...]
    promotions: tuple[PromotionFacts, ...]
    damaged: tuple[str, ...] = ()
    files: int = 0
    told: Mapping[str, tuple[int | None, str, str]] = field(default_factory=dict)

    @property
    def live(self) -> int | None:
        """The version that serves, by the rows."""
        newest = max(self.promotions, key=lambda one: one.id, default=None)
        return None if newest is None else newest.version

    def lineage(self, version: int | None) -> frozenset[int]:
        """The version and all before it, by parent."""
        parents = {one.version: one.parent for one in self.versions}
        met: set[int] = set()
        while version is not None and version not in met:
            met.add(version)
            version = parents.get(version)
        return frozenset(met)

    def learnt(self, lineage: Iterable[int]) -> frozenset[str]:
        """Corrections that these versions were fitted on."""
        wanted = set(lineage)
        return frozenset(
            name for one in self.versions if one.version in wanted for name in one.corrections
        )


def gather(stack: Stack, caller: Caller, corrections: Iterable[str]) -> Evidence:
    """Rows and files as they are, and what the APIs tell of these corrections, in turn.

    Raises DatabaseUnavailable, StorageUnavailable.
    """
    engine = open_database(stack.database_url)
    try:
        rows = _rows(engine)
        checked = verify(engine, ArtifactStore(stack.artifacts))
    finally:
        engine.dispose()
    told = {
        name: _told(caller.call(stack.apis[turn % len(stack.apis)], "GET", f"/corrections/{name}"))
        for turn, name in enumerate(corrections)
    }
    damaged = tuple(f"{one.kind} {one.subject}: {one.detail}" for one in checked.findings)
    return Evidence(*rows, damaged=damaged, files=checked.files, told=told)


def _told(reply: Reply) -> tuple[int | None, str, str]:
    return reply.status, str(reply.body.get("state")), str(reply.body.get("label"))


def _rows(
    engine: Engine,
) -> tuple[
    dict[str, CorrectionFacts],
    dict[str, JobFacts],
    tuple[VersionFacts, ...],
    tuple[PromotionFacts, ...],
]:
    with reading(engine) as session:
        fitted: dict[int, set[str]] = {}
        for version, name in session.execute(
            select(AdapterCorrection.version, AdapterCorrection.correction_id)
        ):
            fitted.setdefault(version, set()).add(name)
        corrections = select(Correction).options(joinedload(Correction.edit_job))
        return (
            {row.id: _correction(row) for row in session.scalars(corrections)},
            {row.id: _job(row) for row in session.scalars(select(EditJob))},
            tuple(
                VersionFacts(
                    row.version,
                    row.parent,
                    row.digest,
                    row.edit_job_id,
                    frozenset(fitted.get(row.version, ())),
                )
                for row in session.scalars(select(AdapterRecord))
            ),
            tuple(
                PromotionFacts(
                    row.id, row.version, row.replaces, row.edit_job_id, row.created_at.timestamp()
                )
                for row in session.scalars(select(Promotion))
            ),
        )


def _correction(row: Correction) -> CorrectionFacts:
    return CorrectionFacts(
        row.id, row.image_sha256, row.label, row.edit_job_id, row.state, row.superseded_by
    )


def _job(row: EditJob) -> JobFacts:
    reason = (row.report or {}).get("reason") or (row.error or {}).get("detail")
    return JobFacts(row.id, row.status, row.adapter, reason, row.cancel_requested)
