"""One attempt at one edit job, phase by phase.

    waiting → scoring → training → gating → storing → promoting

Fitting and judging hold no transaction. The adapter's file is stored first; then one transaction
records the version, its promotion, the answers before and after, and the end of the job, so that a
crash leaves either all of it or nothing. The same job fitted twice gives the same file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as library_version

from sqlalchemy.orm import Session

from editing.errors import EditCancelled
from editing.methods import MethodConfig, parse_config
from editing.progress import Progress
from encoder.adapter import Adapter, Provenance
from encoder.clip import Encoder
from registry.adapters import NewAdapter, record_adapter
from registry.claims import finish_job, hold_claim
from registry.corrections import record_outcome
from registry.errors import PromotionConflict
from registry.promotions import live_promotion, promote
from registry.session import take_turn, transaction
from registry.tables import EditJob
from worker.candidate import Bench, Candidate, empty_candidate, make_candidate
from worker.control_sets import Controls
from worker.errors import CorrectionsChanged, ImageUnreadable, LiveChanged
from worker.lineage import Facts, is_forgotten, read_corrections, read_facts
from worker.training_set import Teaching, TrainingPlan, TrainingSet, plan_training
from worker.versions import load_version
from worker.workshop import Workshop

LIBRARIES = ("torch", "open_clip_torch", "timm", "safetensors")


@dataclass(frozen=True)
class Attempt:
    """A claimed job and what it takes to run it. `parent` is the version that was live."""

    workshop: Workshop
    job: EditJob
    parent: int
    config: MethodConfig
    progress: Progress


def run_edit(workshop: Workshop, job: EditJob, *, parent: int, progress: Progress) -> str:
    """Runs a claimed job to its end; its final status is "succeeded" or "rejected".

    Raises EditError, EncoderError, RegistryError or WorkerError. The job is then still running,
    nothing is recorded, and the caller ends it or gives it back.
    """
    attempt = Attempt(workshop, job, parent, parse_config(job.method, job.config), progress)
    facts = read_facts(workshop.engine, job, parent)
    plan = plan_training(
        facts.new,
        facts.live,
        attempt.config,
        seed=job.seed,
        must_refit=facts.must_forget,
        read=partial(read_corrections, workshop.engine),
    )
    live = load_version(workshop, parent)
    start = live if plan.stacked else workshop.base
    candidate = (
        _fit_and_judge(attempt, facts, plan, live)
        if plan.fitted
        else empty_candidate(attempt.config)
    )
    adapter = _adapter(attempt, candidate, start)
    new = _store(attempt, adapter, candidate, plan)
    return _conclude(attempt, new, candidate)


def _fit_and_judge(attempt: Attempt, facts: Facts, plan: TrainingPlan, live: Encoder) -> Candidate:
    began = time.monotonic()
    workshop, seed = attempt.workshop, attempt.job.seed
    controls = workshop.controls.load(
        facts.controls,
        guard_images=attempt.config.guard_images,
        seed=seed,
        progress=attempt.progress,
    )
    questions = workshop.questions.load(
        facts.questions, guarded=controls.guarded, progress=attempt.progress
    )
    start = live if plan.stacked else workshop.base
    training = _training_set(attempt, plan, start, facts, controls)
    attempt.progress("waiting", 1, 1, None)
    bench = Bench(
        base=workshop.base,
        parent=live,
        start=start,
        plan=plan,
        training=training,
        controls=controls,
        questions=questions,
        gathering=time.monotonic() - began,
    )
    return make_candidate(
        bench, attempt.config, workshop.gate, seed=seed, progress=attempt.progress
    )


def _training_set(
    attempt: Attempt, plan: TrainingPlan, start: Encoder, facts: Facts, controls: Controls
) -> TrainingSet:
    workshop = attempt.workshop
    teaching = Teaching.of(attempt.config, attempt.job.config)
    try:
        return workshop.training_sets.build(plan, start, facts.label_sets, controls, teaching)
    except ImageUnreadable as error:
        if is_forgotten(workshop.engine, error.image_sha256):
            raise CorrectionsChanged(error.image_sha256) from error
        raise


def _adapter(attempt: Attempt, candidate: Candidate, start: Encoder) -> Adapter:
    job, base = attempt.job, attempt.workshop.base
    return Adapter(
        candidate.deltas,
        Provenance(
            method=job.method,
            config=candidate.config.model_dump(mode="json"),
            seed=job.seed,
            parent=attempt.parent,
            stacked_on=start.chain,
            base_name=base.name,
            base_pretrained=base.pretrained,
            base_digest=base.base_digest,
            strength=candidate.strength,
            libraries={name: library_version(name) for name in LIBRARIES},
            created_at=job.created_at.isoformat(),
        ),
    )


def _store(
    attempt: Attempt, adapter: Adapter, candidate: Candidate, plan: TrainingPlan
) -> NewAdapter:
    """Puts the adapter's file into the store. Raises StorageFull, StorageUnavailable."""
    attempt.progress("storing", 0, 1, None)
    data = adapter.to_bytes()
    origin = adapter.provenance
    return NewAdapter(
        parent=attempt.parent,
        stacked_on=attempt.parent if origin.stacked_on else None,
        method=origin.method,
        config=origin.config,
        seed=origin.seed,
        base_name=origin.base_name,
        base_pretrained=origin.base_pretrained,
        base_digest=origin.base_digest,
        digest=attempt.workshop.store.put(data),
        bytes=len(data),
        parameters=candidate.parameters,
        strength=candidate.strength,
        edit_job_id=attempt.job.id,
        report=candidate.report,
        correction_ids=[each.id for each in plan.fitted],
    )


def _conclude(attempt: Attempt, new: NewAdapter, candidate: Candidate) -> str:
    """Records everything in one transaction. Raises ClaimLost, EditCancelled, LiveChanged."""
    attempt.progress("promoting", 0, 1, None)
    job, now = attempt.job, datetime.now(UTC)
    with transaction(attempt.workshop.engine) as session:
        take_turn(session)
        if hold_claim(session, job.id, job.attempt).cancel_requested:
            raise EditCancelled
        version = record_adapter(session, attempt.workshop.store, new, now=now)
        if candidate.promoted:
            _promote(session, attempt, version, candidate.reason, now)
        for correction_id, (before, after) in candidate.answers.items():
            record_outcome(
                session,
                correction_id,
                before={**before, "adapter": attempt.parent},
                after={**after, "adapter": version},
            )
        return finish_job(
            session,
            job.id,
            job.attempt,
            status="succeeded" if candidate.promoted else "rejected",
            adapter=version,
            report=candidate.report,
            now=now,
        ).status


def _promote(session: Session, attempt: Attempt, version: int, reason: str, now: datetime) -> None:
    live = live_promotion(session)
    if live.version != attempt.parent:
        raise LiveChanged(attempt.parent, live.version)
    try:
        promote(
            session,
            version,
            replaces=live.id,
            reason=reason,
            edit_job_id=attempt.job.id,
            now=now,
        )
    except PromotionConflict as conflict:
        raise LiveChanged(attempt.parent, conflict.found or 0) from conflict
