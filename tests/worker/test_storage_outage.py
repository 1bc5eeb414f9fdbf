"""What cannot be read or written for a while is tried again; real errors of the file system."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.artifacts import ArtifactStore
from registry.claims import reclaim_expired
from registry.control_sets import list_control_images
from registry.corrections import get_correction
from registry.errors import StorageUnavailable
from registry.session import reading, transaction
from registry.tables import EditJob
from servers.object_store import running_object_store
from tests.support.places import bucket_place
from tests.support.running_worker import Desk, Here, open_desk, open_shop
from tests.support.storage import block, unblock
from tests.support.waiting import wait_for
from tests.worker.test_warm_up import add_controls
from worker.due_jobs import run_due_jobs
from worker.warm_up import WarmUp

PICTURES = [("apple", 1), ("leaf", 1), ("sea", 1)]


def interrupted(here: Here, job_id: str) -> EditJob:
    """Runs into the outage; the job as it stands then."""
    with pytest.raises(StorageUnavailable):
        run_due_jobs(here.workshop)
    return here.desk.job(job_id)


def expire(here: Here) -> None:
    """Takes the job back as the sweep does once its lease is over."""
    with transaction(here.desk.engine) as session:
        reclaim_expired(
            session,
            now=datetime.now(UTC) + timedelta(hours=1),
            lease=timedelta(seconds=1),
            max_attempts=3,
        )


def image_of(desk: Desk, correction_id: str) -> str:
    with reading(desk.engine) as session:
        image = get_correction(session, correction_id).image_sha256
    assert image is not None
    return image


def test_a_job_whose_images_cannot_be_read_for_a_while_is_tried_again(here: Here) -> None:
    submission = here.desk.correct(PICTURES)
    job_id = submission.edit_job.id
    image = image_of(here.desk, submission.corrections[1].id)
    block(here.desk.store, image)
    assert interrupted(here, job_id).status == "running"
    expire(here)
    assert here.desk.job(job_id).status == "queued"
    unblock(here.desk.store, image)
    job = here.run(job_id)
    assert (job.status, job.attempt, job.lost) == ("succeeded", 2, 1)


def test_a_job_whose_bucket_does_not_answer_for_a_while_is_tried_again(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        running_object_store(tmp_path) as server,
        bucket_place(server) as place,
        open_desk(tmp_path, database_url=database_url, ARTIFACTS=place.url) as desk,
        open_shop(desk, monkeypatch) as workshop,
    ):
        here = Here(desk, workshop)
        job_id = desk.correct(PICTURES).edit_job.id
        server.freeze()
        assert interrupted(here, job_id).status == "running"
        server.thaw()
        assert desk.job(job_id).progress["trouble"].startswith(f"cannot use the store {place.url}")
        expire(here)
        wait_for(lambda: answers(workshop.store), seconds=20, what="the bucket to answer again")
        job = here.run(job_id)
        assert (job.status, job.attempt, job.lost) == ("succeeded", 2, 1)
        assert place.name(desk.adapter(1).digest) in place.files()


def answers(store: ArtifactStore) -> bool:
    try:
        return not store.exists("a" * 64)
    except StorageUnavailable:
        return False


def test_an_outage_without_an_end_fails_the_job_and_is_named(here: Here) -> None:
    submission = here.desk.correct(PICTURES)
    block(here.desk.store, image_of(here.desk, submission.corrections[0].id))
    for _ in range(3):
        interrupted(here, submission.edit_job.id)
        expire(here)
    job = here.desk.job(submission.edit_job.id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["progress"]["trouble"].startswith("cannot use the store")


def test_a_fitted_edit_that_cannot_be_stored_for_a_while_is_tried_again(here: Here) -> None:
    job_id = here.desk.correct(PICTURES).edit_job.id
    incoming = Path(here.desk.store.url) / "incoming"
    incoming.rename(incoming.with_suffix(".aside"))
    incoming.write_bytes(b"")
    assert interrupted(here, job_id).status == "running"
    assert here.desk.versions() == [0]
    incoming.unlink()
    expire(here)
    assert here.run(job_id).status == "succeeded"


def test_limits_that_were_lowered_leave_accepted_images_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"MAX_IMAGE_BYTES": "10", "MAX_IMAGE_PIXELS": "10"}
    with open_desk(tmp_path, **limits) as desk, open_shop(desk, monkeypatch) as workshop:
        job_id = desk.correct(PICTURES).edit_job.id
        run_due_jobs(workshop)
        assert desk.job(job_id).status == "succeeded"


def test_control_sets_that_cannot_be_read_for_a_while_are_loaded_later(here: Here) -> None:
    add_controls(here.desk, first=0, count=2)
    with reading(here.desk.engine) as session:
        image = list_control_images(session, "colours")[0].image_sha256
    block(here.desk.store, image)
    warm_up = WarmUp(here.workshop)
    assert [warm_up.is_due(), warm_up.is_due()] == [False, True]
    warm_up.run()
    assert warm_up.is_due()
    unblock(here.desk.store, image)
    warm_up.run()
    assert not warm_up.is_due()
