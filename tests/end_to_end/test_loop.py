"""The whole product over HTTP: real processes, the bundled encoder, real handwritten digits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from benchmark.lab import Lab
from benchmark.loop import first_job, load_bed
from client import EmendClient, LocalService, local_service
from demo.photos import Pictures, digits
from tests.support.pictures import first_of_each

ROOT = Path(__file__).resolve().parent.parent.parent
BUNDLED = ROOT / "encoder" / "bundled"
EVERYDAY = json.loads((BUNDLED / "labels.json").read_text())["labels"]
LAB = Path(os.environ.get("EMEND_LAB", "../shared/lab"))
GATHER = {"EMEND_EDIT_BATCH": "1000", "EMEND_EDIT_WAIT": "1"}


def _right(service: EmendClient, pictures: Pictures, adapter: str | int = "live") -> float:
    answers = service.answers(pictures.images, label_set="digits", adapter=adapter)
    pairs = zip(answers, pictures.labels, strict=True)
    return sum(answer == label for answer, label in pairs) / len(pictures.labels)


def test_corrections_become_a_better_encoder_and_roll_back(tmp_path: Path) -> None:
    material = digits(seed=1)
    given, held_out = first_of_each(material.corrections, 5), first_of_each(material.held_out, 10)
    with local_service(tmp_path, GATHER) as service:
        service.put_label_set("digits", list(dict.fromkeys(given.labels)), [material.template])
        service.put_label_set("things", EVERYDAY)
        service.put_control_set("photographs", "things", material.control, budget=12.0)
        before = service.classify(held_out.images, label_set="digits")
        held_out_before = _right(service, held_out)
        (job,) = service.correct(given.images, given.labels, label_set="digits")
        ended = service.wait_job(job)
        version = ended["adapter"]
        assert service.adapter("live")["version"] == version == 1
        assert _right(service, given) >= 0.98
        assert _right(service, held_out) >= held_out_before + 0.2
        assert ended["report"]["controls"][0]["name"] == "photographs"
        assert service.adapter(1)["corrections"] == len(given.labels)
        service.promote(0, "undo")
        assert service.adapter("live")["version"] == 0
        after = service.classify(held_out.images, label_set="digits")
        assert [p["labels"] for p in after] == [p["labels"] for p in before]


def _wait_phase(service: EmendClient, job: str, phase: str) -> None:
    for state in service.events(job):
        if state["progress"]["phase"] == phase:
            return
    pytest.fail(f"the job ended before the phase {phase!r} came")


def _kill_at_once(service: LocalService) -> None:
    """SIGKILL of supervisor, API and worker; none has the time to tell another."""
    supervisor = psutil.Process(service.process.pid)
    supervisor.suspend()  # it would start again what dies
    children = supervisor.children(recursive=True)
    for child in children:
        child.kill()
    service.kill()
    psutil.wait_procs(children, timeout=10)


@pytest.mark.parametrize("moment", ["waiting", "training", "gating"])
def test_a_killed_service_loses_no_accepted_correction(tmp_path: Path, moment: str) -> None:
    """The whole service dies right after the 202, or later; the same folder is started again."""
    given = first_of_each(digits(seed=2).corrections, 2, labels=3)
    first = LocalService(tmp_path, GATHER)
    with EmendClient(first.url) as service:
        first.wait_ready(service)
        service.put_label_set("digits", list(dict.fromkeys(given.labels)))
        (job,) = service.correct(given.images, given.labels, label_set="digits")
        _wait_phase(service, job, moment)
        _kill_at_once(first)
    with local_service(tmp_path, GATHER) as service:
        ended = service.wait_job(job)
        # Around the other two moments a job may just begin or end before the kill.
        assert ended["attempt"] in ({2} if moment == "training" else {1, 2})
        assert len(ended["corrections"]) == len(given.labels)
        assert _right(service, given) >= 0.98
        promotions = service.get("/promotions")["promotions"]
        assert [promotion["version"] for promotion in promotions] == [1, 0]


@pytest.mark.skipif(not LAB.exists(), reason=f"no lab folder at {LAB} (set EMEND_LAB)")
def test_twenty_road_signs_are_learned_within_the_budgets(tmp_path: Path) -> None:
    """The lab's own encoder and photos: what ``benchmark/loop.py --stage first-job`` measures."""
    lab = Lab(LAB)
    bed = load_bed(lab, shots=20, seed=3)
    with local_service(tmp_path, {"EMEND_ENCODER": str(lab.encoder.resolve())}) as service:
        result = first_job(service, lab, bed)
        (job,) = service.get("/edit-jobs")["edit_jobs"]
        correction = service.get(f"/corrections/{job['corrections'][0]}")
    assert (correction["state"], correction["edit_job"]) == ("applied", job["id"])
    assert correction["before"] == {"label": correction["predicted"], "adapter": 0}
    assert correction["after"] == {"label": correction["label"], "adapter": 1}
    assert result["right_after"] >= 98.0
    assert result["adapter_bytes"] <= 0.10 * lab.encoder_bytes
    for control in result["report"]["controls"]:
        assert control["before"] - control["after"] <= control["budget"]
