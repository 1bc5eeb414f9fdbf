"""The operations that only look."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from benchmark.growth.operations import Operation, Seeded
from registry.adapters import correction_counts, get_adapter, list_adapters
from registry.artifacts import get_artifact, unnamed_artifacts
from registry.corrections import (
    correction_ids_of,
    corrections_of,
    get_correction,
    job_corrections,
    list_corrections,
)
from registry.edit_jobs import due_jobs, get_job, list_jobs
from registry.job_counts import JobCounts
from registry.lineage import knows_forgotten, learnt_corrections
from registry.predictions import surplus_predictions
from registry.promotions import list_promotions, live_promotion, promotions_of
from registry.snapshots import chain, surplus_snapshots, version_to_compact

PAGE = 50


def _correction(_: Session, seeded: Seeded) -> str:
    return seeded.correction()


def _version(_: Session, seeded: Seeded) -> int:
    return seeded.version()


def _job(_: Session, seeded: Seeded) -> str:
    return seeded.job()


def _versions(_: Session, seeded: Seeded) -> str:
    return str(seeded.chance.randint(PAGE, max(PAGE, seeded.history.versions)))


def _jobs_page(session: Session, _: Seeded, cursor: str | None) -> None:
    page = list_jobs(session, cursor=cursor)
    correction_ids_of(session, [job.id for job in page.items])


def _job_detail(session: Session, _: Seeded, job_id: str) -> None:
    correction_ids_of(session, [get_job(session, job_id).id])
    job_corrections(session, job_id)


def _adapters_page(session: Session, _: Seeded, cursor: str | None) -> None:
    versions = [row.version for row in list_adapters(session, cursor=cursor).items]
    correction_counts(session, versions)
    promotions_of(session, versions)
    live_promotion(session)


def _adapter_detail(session: Session, _: Seeded, version: int) -> None:
    row = get_adapter(session, version)
    correction_counts(session, [row.version])
    promotions_of(session, [row.version])
    live_promotion(session)


def _image(session: Session, _: Seeded, correction_id: str) -> None:
    get_artifact(session, str(get_correction(session, correction_id).image_sha256))


def _job_counts(session: Session, seeded: Seeded, _: Any) -> None:
    seeded.memory.setdefault("job counts", JobCounts()).read(session)


def _collect(session: Session, seeded: Seeded, _: Any) -> None:
    after = seeded.memory.get("collected") or ""
    seeded.memory["collected"] = unnamed_artifacts(session, after=after)[1]


def _surplus(session: Session, seeded: Seeded, _: Any) -> None:
    now = seeded.history.now
    surplus_predictions(session, keep=timedelta(hours=24), keep_bytes=2**30, now=now)


def _drawn(_: Session, seeded: Seeded) -> list[str]:
    numbers = seeded.history.some(seeded.chance, 500)
    return [seeded.history.correction_id(number) for number in numbers]


READING = (
    Operation("list corrections, first page", lambda s, _, __: list_corrections(s)),
    Operation(
        "list corrections, deep page", lambda s, _, at: list_corrections(s, cursor=at), _correction
    ),
    Operation("get a correction", lambda s, _, one: get_correction(s, one), _correction),
    Operation("get a correction's image", _image, _correction),
    Operation("list jobs, first page", _jobs_page),
    Operation(
        "list jobs, deep page",
        _jobs_page,
        lambda _, d: str(d.chance.randint(PAGE, d.history.cycle_jobs)),
    ),
    Operation("get a job with its corrections", _job_detail, _job),
    Operation("list adapters, first page", _adapters_page),
    Operation("list adapters, deep page", _adapters_page, _versions),
    Operation("get an adapter", _adapter_detail, _version),
    Operation("list promotions, first page", lambda s, _, __: list_promotions(s)),
    Operation(
        "list promotions, deep page", lambda s, _, at: list_promotions(s, cursor=at), _versions
    ),
    Operation("live promotion", lambda s, _, __: live_promotion(s)),
    Operation("the files that make a version", lambda s, _, v: chain(s, v), _version),
    Operation("the files that make the live version", lambda s, d, _: chain(s, d.history.versions)),
    Operation("due jobs", lambda s, d, _: due_jobs(s, d.history.now)),
    Operation("jobs by state, for /metrics", _job_counts),
    Operation("a round of the collection of files", _collect),
    Operation("surplus predictions", _surplus),
)

ONCE_A_JOB = (
    Operation(
        "jobs by state, first look of a process",
        lambda s, _, __: JobCounts().read(s),
        grows_with="jobs",
        every=10,
    ),
    Operation(
        "which version wants a snapshot",
        lambda s, _, __: version_to_compact(s),
        grows_with="adapters",
    ),
    Operation(
        "snapshots that may go", lambda s, _, __: surplus_snapshots(s), grows_with="snapshots"
    ),
    Operation(
        "does the live version know what was forgotten",
        lambda s, d, _: knows_forgotten(s, d.history.versions),
        grows_with="forgotten corrections and stacked versions",
        every=10,
    ),
    Operation(
        "read 500 drawn corrections",
        lambda s, _, ids: corrections_of(s, ids),
        _drawn,
        grows_with="what of the table is not in memory",
    ),
    Operation(
        "what the live lineage learnt",
        lambda s, d, _: learnt_corrections(s, d.history.versions),
        grows_with="corrections learnt",
        every=50,
    ),
)
