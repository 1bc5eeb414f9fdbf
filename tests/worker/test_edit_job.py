"""Edit jobs run in this process, on both databases, a real store and a tiny encoder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest
import torch
from sqlalchemy import select

from editing.guard_term import GuardTerm
from encoder.adapter import Adapter
from encoder.digests import chain_digest
from registry.artifacts import ArtifactStore, release_artifacts
from registry.corrections import forget, get_correction, job_corrections
from registry.errors import ArtifactMissing, StorageFull
from registry.session import reading, transaction
from registry.tables import AdapterCorrection, Correction
from tests.support.running_worker import COLOURS, Here, picture
from worker.due_jobs import error_facts, run_due_jobs
from worker.lineage import read_facts
from worker.versions import load_version

FIRST = [("apple", 1), ("apple", 2), ("leaf", 1), ("sea", 1)]
SECOND = [("leaf", 2), ("sea", 2)]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fitted_on(here: Here, version: int) -> int:
    with reading(here.desk.engine) as session:
        query = select(AdapterCorrection).where(AdapterCorrection.version == version)
        return len(session.scalars(query).all())


def correction(here: Here, correction_id: str) -> Correction:
    with reading(here.desk.engine) as session:
        return get_correction(session, correction_id)


def forget_correction(here: Here, correction_id: str) -> None:
    """`DELETE /corrections/{id}`."""
    with transaction(here.desk.engine) as session:
        images = forget(session, correction_id, now=datetime.now(UTC))
    with transaction(here.desk.engine) as session:
        release_artifacts(session, here.desk.store, images)


def test_a_refit_starts_from_the_base_with_the_earlier_corrections(here: Here) -> None:
    first, second = here.edit(FIRST), here.edit(SECOND)
    assert (first.status, second.status) == ("succeeded", "succeeded")
    assert (second.parent, second.adapter) == (1, 2)
    assert here.desk.promoted() == [0, 1, 2]
    assert here.desk.adapter(2).stacked_on is None
    assert (fitted_on(here, 1), fitted_on(here, 2)) == (4, 6)
    assert second.report is not None
    assert second.report["earlier"]["n"] == 4


@pytest.mark.parametrize("method", ["full_finetune", "layernorm", "lora", "spu"])
def test_every_method_makes_a_version_that_serves(here: Here, method: str) -> None:
    job = here.edit(FIRST, method=method)
    assert (job.status, job.method, job.adapter) == ("succeeded", method, 1)
    assert job.report is not None
    row = here.desk.adapter(1)
    assert (row.method, row.parameters) == (method, job.report["training"]["parameters"])
    assert job.report["corrections"]["after"] == 100
    assert load_version(here.workshop, 1).chain == chain_digest("", row.digest)


def test_what_the_authors_code_moves_makes_a_version_that_serves(here: Here) -> None:
    job = here.edit(FIRST, config={"mode": "code-parity"})
    assert (job.status, job.adapter) == ("succeeded", 1)
    row = here.desk.adapter(1)
    assert row.config["mode"] == "code-parity"
    stored = Adapter.from_bytes(here.desk.store.get(row.digest), digest=row.digest).deltas
    assert {"visual.proj", "visual.transformer.resblocks.0.mlp.c_fc.bias"} <= stored.keys()
    assert load_version(here.workshop, 1).chain == chain_digest("", row.digest)


def test_the_stored_adapter_is_the_one_that_was_judged(here: Here) -> None:
    job = here.edit(FIRST)
    row = here.desk.adapter(1)
    encoder = load_version(here.workshop, 1)
    with reading(here.desk.engine) as session:
        fitted = job_corrections(session, job.id)
    images = [one.image_sha256 for one in fitted]
    labels = [one.label for one in fitted]
    reader = here.workshop.training_sets.reader
    from worker.stored_images import Wanted

    pixels = reader.read([Wanted(image or "", "the test") for image in images])
    from encoder.classifier import build_classifier

    classifier = build_classifier(encoder, [*COLOURS])
    ranked = classifier.rank(encoder.embed_images(pixels), top_k=1)
    assert [best[0][0] for best in ranked] == labels
    adapter = Adapter.from_bytes(here.desk.store.get(row.digest), digest=row.digest)
    assert adapter.provenance.config == row.config
    assert row.config["min_steps"] == 60
    assert adapter.provenance.parent == job.parent == 0


def test_without_control_sets_the_report_says_that_bundled_photographs_judged(here: Here) -> None:
    report = here.edit(FIRST).report
    assert report is not None
    assert report["bundled_controls"] is True
    assert [control["name"] for control in report["controls"]] == ["bundled photographs"]


def test_the_stored_file_says_where_it_comes_from(here: Here) -> None:
    here.run(here.desk.correct(FIRST, seed=7).edit_job.id)
    data = here.desk.store.get(here.desk.adapter(1).digest)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    origin = json.loads(header["__metadata__"]["emend"])["provenance"]
    assert origin["base_digest"] == here.desk.base_digest == here.workshop.base.base_digest
    assert origin["seed"] == 7
    assert origin["libraries"] == {
        name: version(name) for name in ("torch", "open_clip_torch", "timm", "safetensors")
    }


def test_stacking_fits_only_the_new_and_keeps_the_parent_beneath(here: Here) -> None:
    here.edit(FIRST)
    job = here.edit(SECOND, config={"replay": "stack"})
    assert (job.status, job.parent, job.adapter) == ("succeeded", 1, 2)
    assert here.desk.promoted() == [0, 1, 2]
    assert fitted_on(here, 2) == len(SECOND)
    first, second = here.desk.adapter(1), here.desk.adapter(2)
    assert (first.stacked_on, second.stacked_on) == (None, 1)
    stored = Adapter.from_bytes(here.desk.store.get(second.digest), digest=second.digest)
    assert stored.provenance.stacked_on == chain_digest("", first.digest)
    assert job.report is not None
    assert (job.report["fitted_on"]["earlier"], job.report["fitted_on"]["stacked"]) == (0, True)
    assert job.report["earlier"]["n"] == len(FIRST)  # asked, though not fitted again


def test_beyond_the_bound_an_edit_stacks_on_the_live_version(here: Here) -> None:
    here.edit(FIRST)
    job = here.edit(SECOND, config={"max_images": 5})
    assert job.status == "succeeded"
    assert here.desk.adapter(2).stacked_on == 1
    assert fitted_on(here, 2) == 5
    assert job.report is not None
    assert job.report["earlier"]["n"] == 4  # all of them are asked, three were fitted again
    assert job.report["fitted_on"] | {"guard_images": 0} == {
        "new": 2,
        "earlier": 3,
        "answers": 0,
        "stacked": True,
        "guard_images": 0,
    }


def test_after_forgetting_the_next_edit_is_fitted_without_it(here: Here) -> None:
    submission = here.desk.correct(FIRST)
    here.run(submission.edit_job.id)
    image = correction(here, submission.corrections[0].id).image_sha256 or ""
    forget_correction(here, submission.corrections[0].id)
    job = here.run(here.desk.start_job())
    assert (job.status, job.adapter) == ("succeeded", 2)
    assert fitted_on(here, 2) == 3
    assert correction(here, submission.corrections[0].id).state == "forgotten"
    assert not here.desk.store.exists(image)


def test_after_forgetting_everything_the_base_is_back(here: Here) -> None:
    submission = here.desk.correct(FIRST)
    here.run(submission.edit_job.id)
    for each in submission.corrections:
        forget_correction(here, each.id)
    job = here.run(here.desk.start_job())
    assert (job.status, job.adapter) == ("succeeded", 2)
    assert here.desk.promoted() == [0, 1, 2]
    encoder = load_version(here.workshop, 2)
    assert encoder.digest == here.workshop.base.digest
    assert here.edit(SECOND).adapter == 3


def test_a_version_that_knows_something_forgotten_is_never_stacked_upon(here: Here) -> None:
    submission = here.desk.correct(FIRST)
    here.run(submission.edit_job.id)
    forget_correction(here, submission.corrections[0].id)
    job = here.edit(SECOND, config={"max_images": 4})
    assert job.status == "succeeded"
    assert here.desk.adapter(2).stacked_on is None
    assert fitted_on(here, 2) == 5  # all others, beyond the bound


def test_a_replaced_label_is_no_longer_fitted(here: Here) -> None:
    here.edit([("apple", 1), ("leaf", 1)])
    submission = here.desk.correct([("apple", 1)], label="sea", replace=True)
    job = here.run(submission.edit_job.id)
    assert job.status == "succeeded"
    assert fitted_on(here, 2) == 2
    assert correction(here, submission.corrections[0].id).after == {"label": "sea", "adapter": 2}


def test_a_rejected_candidate_is_kept_as_evidence_and_live_stays(here: Here) -> None:
    # One Adam step of almost no size cannot repair anything.
    feeble = {"min_steps": 1, "max_steps": 1, "learning_rate": 1e-9, "fc1_learning_rate": 1e-9}
    submission = here.desk.correct(FIRST, config=feeble)
    job = here.run(submission.edit_job.id)
    assert (job.status, job.adapter, job.error) == ("rejected", 1, None)
    assert here.desk.promoted() == [0]
    report = here.desk.adapter(1).report
    assert report is not None
    assert report["verdict"] == "refused"
    assert "corrections are right" in report["reason"]
    assert here.desk.store.exists(here.desk.adapter(1).digest)
    assert correction(here, submission.corrections[0].id).state == "rejected"


def test_rejected_corrections_can_be_tried_again(here: Here) -> None:
    here.edit(FIRST, config={"min_steps": 1, "max_steps": 1, "learning_rate": 1e-9})
    job = here.run(here.desk.start_job())
    assert (job.status, job.adapter) == ("succeeded", 2)
    assert here.desk.adapter(2).parent == 0


def test_a_loss_that_diverges_fails_the_job_and_live_stays(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.edit(FIRST)
    monkeypatch.setattr(GuardTerm, "loss", lambda *_: torch.tensor(torch.nan))
    job = here.edit(SECOND)
    assert (job.status, job.adapter) == ("failed", None)
    assert job.error is not None
    assert job.error["type"] == "loss-diverged"
    assert "finite" in job.error["detail"]
    assert here.desk.promoted() == [0, 1]
    assert here.desk.versions() == [0, 1]


def test_a_full_disk_fails_the_job_and_the_corrections_can_be_tried_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_store: ArtifactStore, data: bytes) -> str:
        raise StorageFull("the disk", len(data))

    submission = here.desk.correct(FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "put", full)
        job = here.run(submission.edit_job.id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "storage-full"
    assert here.desk.versions() == [0]
    assert correction(here, submission.corrections[0].id).state == "failed"
    assert here.run(here.desk.start_job()).status == "succeeded"


def test_an_unreadable_image_fails_the_job_and_is_named(here: Here) -> None:
    submission = here.desk.correct(FIRST)
    image = correction(here, submission.corrections[2].id).image_sha256
    assert image is not None
    here.desk.store.delete(image)
    job = here.run(submission.edit_job.id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "image-unreadable"
    assert image in job.error["detail"]
    assert submission.corrections[2].id in job.error["detail"]


def test_an_invalid_config_fails_the_job_with_the_field(here: Here) -> None:
    job = here.edit(FIRST, config={"rank": 0})
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["type"] == "invalid-config"
    assert "rank" in job.error["detail"]


def test_what_nobody_foresaw_is_recorded_and_raised(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_known: Any) -> None:
        raise ZeroDivisionError("by nothing")

    submission = here.desk.correct(FIRST)
    monkeypatch.setattr("worker.edit_job.make_candidate", broken)
    with pytest.raises(ZeroDivisionError):
        run_due_jobs(here.workshop)
    job = here.desk.job(submission.edit_job.id)
    assert job.status == "failed"
    assert job.error == {"type": "zero-division-error", "detail": "by nothing"}


def test_a_second_wake_up_does_nothing(here: Here) -> None:
    here.edit(FIRST)
    run_due_jobs(here.workshop)
    assert here.desk.versions() == [0, 1]
    assert here.desk.promoted() == [0, 1]


def test_the_same_job_gives_the_same_file(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.errors import WorkerStopping

    put = ArtifactStore.put
    stored: list[str] = []

    def put_and_stop_once(store: ArtifactStore, data: bytes) -> str:
        stored.append(put(store, data))
        if len(stored) == 1:
            raise WorkerStopping
        return stored[-1]

    submission = here.desk.correct(FIRST)
    monkeypatch.setattr(ArtifactStore, "put", put_and_stop_once)
    job = here.run(submission.edit_job.id)
    assert (job.status, job.attempt) == ("succeeded", 2)
    assert stored[0] == stored[1] == here.desk.adapter(1).digest


def test_an_edit_leaves_the_base_encoder_as_it_was(here: Here) -> None:
    before = {name: value.clone() for name, value in here.workshop.base.model.state_dict().items()}
    here.edit(FIRST)
    after = here.workshop.base.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_image_forgotten_meanwhile_is_left_out(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = here.desk.correct(FIRST)
    forgotten: list[str] = []

    def forget_after_reading(*known: Any) -> Any:
        facts = read_facts(*known)
        if not forgotten:
            forgotten.append(submission.corrections[0].id)
            forget_correction(here, forgotten[0])
        return facts

    monkeypatch.setattr("worker.edit_job.read_facts", forget_after_reading)
    job = here.run(submission.edit_job.id)
    assert (job.status, job.attempt) == ("succeeded", 2)
    assert fitted_on(here, 1) == 3


def test_error_names_are_made_from_the_class() -> None:
    assert error_facts(ArtifactMissing("abc")) == {
        "type": "artifact-missing",
        "detail": "no stored file 'abc'",
    }
    assert error_facts(OSError()) == {"type": "os-error", "detail": "OSError"}
    assert picture("apple", 1) != picture("apple", 2)
