"""A history as the rows of each table, for COPY: times as they are, JSON as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from benchmark.growth.history import LABELS, PREDICTIONS, History, Version

LABEL_SET = "signs"
CONTROL_SETS, CONTROL_IMAGES = 2, 250
IMAGE_BYTES, ADAPTER_BYTES, SNAPSHOT_BYTES = 60_000, 1_510_000, 12_000_000
VOCABULARY = "0" * 64
Rows = Iterable[Sequence[object]]


def tables(history: History) -> Iterator[tuple[str, str, Rows]]:
    """In the order in which they name each other."""
    yield "artifacts", "sha256, bytes, media_type, created_at", _artifacts(history)
    yield "adapters", _ADAPTER, (_adapter(history, each) for each in history.life)
    yield "snapshots", "version, digest, bytes, created_at", _snapshots(history)
    jobs = range(1, history.jobs + 1)
    yield "edit_jobs", _JOB, (_job(history, number) for number in jobs)
    corrections = range(history.corrections)
    yield "corrections", _CORRECTION, (_correction(history, number) for number in corrections)
    yield "edit_job_corrections", "job_id, correction_id", _joined(history)
    yield "adapter_corrections", "version, correction_id", _fitted(history)
    yield (
        "promotions",
        "id, version, replaces, reason, edit_job_id, created_at",
        _promotions(history),
    )
    yield "control_images", "control_set, image_sha256, label", _control_images(history)
    yield "vocabularies", "digest, labels, bytes", [(VOCABULARY, json.dumps(["a", "b"]), 10)]
    yield "predictions", _PREDICTION, _predictions(history)


def _artifacts(history: History) -> Iterator[Sequence[object]]:
    def row(sha256: str, size: int = IMAGE_BYTES, kind: str = "image/jpeg") -> Sequence[object]:
        return sha256, size, kind, history.at(0)

    for number in range(history.corrections):
        if history.superseded(number) is None and not history.forgotten(number):
            yield row(history.image(number))
    kind = "application/vnd.safetensors"
    for version in range(1, history.versions + 1):
        yield row(history.adapter_digest(version), ADAPTER_BYTES, kind)
    for version in history.compacted:
        yield row(history.snapshot_digest(version), SNAPSHOT_BYTES, kind)
    yield from map(row, history.predicted_images())
    yield from (row(sha256) for _, sha256, _ in _control_images(history))


def _snapshots(history: History) -> Rows:
    for version in history.compacted:
        yield version, history.snapshot_digest(version), SNAPSHOT_BYTES, history.now


_ADAPTER = (
    "version, parent, stacked_on, depth, method, config, seed, base_name, base_digest, digest,"
    " bytes, parameters, strength, edit_job_id, report, created_at"
)


def _adapter(history: History, version: Version) -> Sequence[object]:
    job = history.final_job(version.number)
    return (
        version.number,
        version.parent,
        version.stacked_on,
        version.depth,
        "lorsu",
        CONFIG,
        0,
        "long-life",
        history.base_digest,
        history.adapter_digest(version.number),
        ADAPTER_BYTES,
        377_000,
        1.0,
        history.job_id(job),
        _report(version),
        _ended(history, job),
    )


_JOB = (
    "number, id, status, open, method, config, seed, base_digest, parent, adapter, size, attempt,"
    " lost, worker, progress, report, error, cancel_requested, emptied, created_at, starts_at,"
    " started_at, finished_at"
)
WAITING = json.dumps({"phase": "waiting", "step": 0, "steps": 0, "loss": None})
CONFIG = json.dumps({"rank": 8, "alpha": 16.0, "learning_rate": 1e-3, "max_images": 500})
ERROR = json.dumps({"type": "worker-lost", "detail": "the worker stopped answering"})


def _job(history: History, number: int) -> Sequence[object]:
    version = None
    if number <= history.cycle_jobs and number % 10 == 0:
        version = history.life[number // 10 - 1]
    status = _status(history, number, version)
    ended = status != "queued"
    begun = history.at(history.gathered(number)[0]) if number > history.cycle_jobs else None
    created = begun or _ended(history, number) - timedelta(minutes=1)
    return (
        number,
        history.job_id(number),
        status,
        number == history.jobs,
        "lorsu",
        CONFIG,
        0,
        history.base_digest,
        version.parent if version else None,
        version.number if version else None,
        len(history.joined(number)),
        1 if ended else 0,
        0,
        "worker-1" if ended else None,
        WAITING,
        _report(version) if version else None,
        ERROR if status == "failed" else None,
        status == "cancelled",
        number <= history.cycle_jobs and (version is None or not version.stays),
        created,
        created if number < history.jobs else history.now + timedelta(days=1),
        created if ended else None,
        _ended(history, number) if ended else None,
    )


def _status(history: History, number: int, version: Version | None) -> str:
    if version is not None:
        return "succeeded" if version.accepted else "rejected"
    if number > history.cycle_jobs + 1:
        return "queued"
    return "cancelled" if number % 3 == 0 else "failed"


def _ended(history: History, job: int) -> Any:
    return history.at(min(job * 10, history.corrections))


def _report(version: Version) -> str:
    control = {"n": 500, "before": 65.4, "after": 65.1, "flips": 0.022, "budget": 1.0}
    return json.dumps(
        {
            "verdict": "promoted" if version.accepted else "refused",
            "reason": "all budgets are kept" if version.accepted else "a control set lost too much",
            "corrections": {"n": 100, "before": 0.35, "after": 1.0},
            "held_out": None,
            "earlier": {"n": 500, "before": 0.99, "after": 0.99},
            "controls": [{"name": f"control-{n}", **control} for n in range(CONTROL_SETS)],
            "seconds": {"waiting": 9.3, "scoring": 0.5, "training": 17.7, "gating": 7.8},
        }
    )


_CORRECTION = (
    "id, image_sha256, label, label_set, predicted, note, edit_job_id, before, after, created_at,"
    " superseded_by, forgotten_at"
)


def _correction(history: History, number: int) -> Sequence[object]:
    forgotten = history.forgotten(number)
    later = history.superseded_by(number)
    learnt = number < history.settled
    return (
        history.correction_id(number),
        None if forgotten else history.image(number),
        history.label(number),
        LABEL_SET if number % 2 else None,
        f"label {number % LABELS}",
        "seen on the ring road" if number % 10 == 0 and not forgotten else None,
        history.job_id(history.latest_job(number)),
        json.dumps({"label": "label 1", "adapter": 0}) if learnt else None,
        json.dumps({"label": history.label(number), "adapter": 1}) if learnt else None,
        history.at(number),
        None if later is None else history.correction_id(later),
        history.now if forgotten else None,
    )


def _joined(history: History) -> Rows:
    for job in range(1, history.jobs + 1):
        name = history.job_id(job)
        for number in history.joined(job):
            yield name, history.correction_id(number)


def _fitted(history: History) -> Rows:
    for version in history.life:
        for number in history.fitted(version):
            yield version.number, history.correction_id(number)


def _promotions(history: History) -> Rows:
    for place, version in enumerate(history.promoted, start=2):
        yield place, version, place - 1, "the gate", None, history.at(min(place, history.settled))


def _control_images(history: History) -> Iterator[tuple[str, str, str]]:
    for number in range(CONTROL_SETS):
        for place in range(CONTROL_IMAGES):
            sha256 = history.control_image(number * CONTROL_IMAGES + place)
            yield f"control-{number}", sha256, f"label {place % LABELS}"


_PREDICTION = "id, image_sha256, version, label_set, vocabulary_digest, answer, bytes, created_at"


def _predictions(history: History) -> Rows:
    answer = json.dumps([{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}])
    for number, sha256 in enumerate(history.predicted_images()):
        at = history.now - timedelta(seconds=PREDICTIONS - number)
        yield (
            history.prediction_id(number),
            sha256,
            0,
            LABEL_SET,
            VOCABULARY,
            answer,
            IMAGE_BYTES + len(answer),
            at,
        )
