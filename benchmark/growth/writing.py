"""The operations that write; what they wrote is rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from benchmark.growth.operations import Operation, Seeded
from registry.adapters import NewAdapter, record_adapter
from registry.artifacts import keep_artifact
from registry.claims import claim_job, finish_job, heartbeat, reclaim_expired
from registry.corrections import forget, record_outcome
from registry.edit_jobs import start_job
from registry.errors import CorrectionConflict
from registry.matching import NewCorrection
from registry.predictions import NewPrediction, keep_predictions
from registry.promotions import live_promotion, promote
from registry.submissions import Submission, submit
from registry.tables import EditJob

BATCH = 20
NEW_IMAGES = [f"a photo that was never sent, {number}".encode() for number in range(BATCH)]
NEW_ADAPTER = b"an adapter that was never recorded"
LEASE = timedelta(seconds=10)


def _submit(
    session: Session, seeded: Seeded, items: Sequence[NewCorrection], *, replace: bool = False
) -> Submission:
    return submit(
        session,
        items,
        replace=replace,
        base_digest=seeded.history.base_digest,
        batch=1_000,
        wait=timedelta(seconds=5),
        now=seeded.history.now,
    )


def _put_new(_: Session, seeded: Seeded) -> list[str]:
    return [seeded.store.put(image) for image in NEW_IMAGES]


def _submit_new(session: Session, seeded: Seeded, images: list[str]) -> None:
    for image in images:
        keep_artifact(
            session, seeded.store, image, size=40, media_type="image/png", now=seeded.history.now
        )
    _submit(session, seeded, [NewCorrection(image, "label 1") for image in images])


def _known(_: Session, seeded: Seeded) -> list[NewCorrection]:
    history = seeded.history
    numbers = history.some(seeded.chance, BATCH)
    return [NewCorrection(history.image(number), history.label(number)) for number in numbers]


def _left_over(_: Session, seeded: Seeded) -> list[NewCorrection]:
    history = seeded.history
    numbers = seeded.chance.sample(history.gathered(history.cycle_jobs + 1), BATCH)
    return [NewCorrection(history.image(number), history.label(number)) for number in numbers]


def _relabelled(session: Session, seeded: Seeded) -> list[NewCorrection]:
    return [NewCorrection(one.image_sha256, "another label") for one in _known(session, seeded)]


def _refused(session: Session, seeded: Seeded, items: list[NewCorrection]) -> None:
    with suppress(CorrectionConflict):
        _submit(session, seeded, items)


def _claimed(session: Session, seeded: Seeded) -> EditJob:
    job = claim_job(session, worker="worker-1", now=seeded.history.now)
    assert job is not None, "the history holds due jobs"
    return job


def _heartbeat(session: Session, seeded: Seeded, job: EditJob) -> None:
    progress = {"phase": "training", "step": 7, "steps": 50, "loss": 0.5}
    heartbeat(session, job.id, job.attempt, progress=progress, now=seeded.history.now)


def _reclaim(session: Session, seeded: Seeded, _: Any) -> None:
    now = seeded.history.now + 2 * LEASE
    reclaim_expired(session, now=now, lease=LEASE, max_attempts=3)


def _fitted(session: Session, seeded: Seeded) -> tuple[EditJob, list[str]]:
    seeded.store.put(NEW_ADAPTER)
    history = seeded.history
    numbers = history.some(seeded.chance, 100)
    return _claimed(session, seeded), [history.correction_id(number) for number in numbers]


def _conclude(session: Session, seeded: Seeded, fitted: tuple[EditJob, list[str]]) -> None:
    (job, ids), now = fitted, seeded.history.now
    live = live_promotion(session)
    new = NewAdapter(
        parent=live.version,
        stacked_on=live.version,
        method=job.method,
        config=job.config,
        seed=job.seed,
        base_name="long-life",
        base_pretrained=None,
        base_digest=seeded.history.base_digest,
        digest=seeded.store.put(NEW_ADAPTER),
        bytes=len(NEW_ADAPTER),
        parameters=1,
        strength=1.0,
        edit_job_id=job.id,
        report={"verdict": "promoted"},
        correction_ids=ids,
    )
    version = record_adapter(session, seeded.store, new, now=now)
    promote(session, version, replaces=live.id, reason="the gate", edit_job_id=job.id, now=now)
    for one in ids[:BATCH]:
        record_outcome(session, one, before=None, after={"label": "label 1", "adapter": version})
    finish_job(session, job.id, job.attempt, status="succeeded", adapter=version, now=now)


def _roll_back(session: Session, seeded: Seeded, _: Any) -> None:
    live = live_promotion(session)
    target = max(live.version - 1, 0)
    promote(session, target, replaces=live.id, reason="rollback", now=seeded.history.now)


def _keep_predictions(session: Session, seeded: Seeded, images: list[str]) -> None:
    now = seeded.history.now
    for image in images:
        keep_artifact(session, seeded.store, image, size=40, media_type="image/png", now=now)
    rows = [
        NewPrediction(f"{number:032x}", image, 0, None, ["a", "b"], [], 40)
        for number, image in enumerate(images)
    ]
    keep_predictions(session, rows, now=now)


def _start(session: Session, seeded: Seeded, _: Any) -> None:
    held = session.get_one(EditJob, seeded.history.jobs)
    held.open = False  # what stands in the way of taking up what came to nothing
    session.flush()
    now = seeded.history.now
    start_job(
        session, method="lorsu", config={}, seed=0, base_digest=seeded.history.base_digest, now=now
    )


WRITING = (
    Operation("submit 20 new images", _submit_new, _put_new),
    Operation("submit 20 known images", _submit, _known),
    Operation("submit 20 images that came to nothing", _submit, _left_over),
    Operation("refuse 20 known images with other labels", _refused, _relabelled),
    Operation(
        "replace the labels of 20 known images",
        lambda s, d, items: _submit(s, d, items, replace=True),
        _relabelled,
    ),
    Operation(
        "forget a correction",
        lambda s, d, one: forget(s, one, now=d.history.now),
        lambda _, d: d.correction(),
    ),
    Operation("keep 20 predictions", _keep_predictions, _put_new),
    Operation("claim a job", lambda s, d, _: _claimed(s, d)),
    Operation("heartbeat", _heartbeat, _claimed),
    Operation("take back a lost job", _reclaim, _claimed),
    Operation("record, promote and finish", _conclude, _fitted),
    Operation("roll back", _roll_back),
)

BY_REQUEST = (
    Operation(
        "start a job on what came to nothing",
        _start,
        grows_with="jobs that ended without a version",
        every=10,
    ),
)
