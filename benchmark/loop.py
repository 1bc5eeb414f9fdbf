"""What a customer does, over HTTP only: report mistakes, wait, and measure the encoder again.

Two stages, each on a service of its own over the lab's base encoder:

``first-job``  20 corrections of one class on an idle service: seconds from POST to live.
``five-jobs``  20 training photos a class of 43 traffic signs, sent in five batches of disjoint
               classes; accuracy on the test split and on control photographs before and after.

The control photographs are sent as two control sets (ten names, a thousand names). A further set of
1,000 photographs, ``wide``, is never sent: it shows what the service did to images it has not seen.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.datasets.missing import DataSetError
from benchmark.lab import Lab, Photos, draw, named
from benchmark.latency import LatencyProbe
from benchmark.record import add_out, commit_of
from client import EmendClient, EmendError, JobEnded, ServiceEnded, local_service

RESULTS = Path(__file__).parent / "results"
SIGNS, TEN, THOUSAND = "signs", "ten", "thousand"
BUDGETS = {TEN: 0.5, THOUSAND: 1.0}  # points of accuracy
IDLE_SECONDS = 15.0
FIRST_JOB_CLASS = 0  # position in the paper's class order: the first class of the first batch
# A batch is several requests of 64 images: wait for silence instead of starting at the 20th.
GATHER = {"EMEND_EDIT_BATCH": "1000", "EMEND_EDIT_WAIT": "3"}


@dataclass(frozen=True)
class Bed:
    """The photos of one run."""

    batches: list[Photos]
    test: Photos
    control: dict[str, Photos]
    wide: Photos
    encoder_bytes: int


def say(text: str) -> None:
    """A line of progress with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def load_bed(lab: Lab, *, shots: int, seed: int) -> Bed:
    """Read the photos; ``shots`` training photos a class, drawn with ``seed``."""
    names = lab.label_names("gtsrb").names
    train, test = lab.signs("train"), lab.signs("test")
    batches = []
    for group in lab.class_groups:
        drawn = [(names[c], image) for c in group for image in draw(train[c], shots, seed)]
        batches.append(Photos([image for _, image in drawn], [label for label, _ in drawn]))
    ten = lab.label_names("control").names
    thousand = lab.label_names("imagenet").names
    return Bed(
        batches=batches,
        test=named(test, names),
        # The ten control names are among the thousand, spelt alike.
        control={name: named(lab.folders("control.zip"), ten) for name in (TEN, THOUSAND)},
        wide=named(lab.folders("wide-control.zip"), thousand),
        encoder_bytes=lab.encoder_bytes,
    )


def prepare(service: EmendClient, lab: Lab, bed: Bed) -> None:
    """Define the label sets and the two control sets with their budgets in points."""
    for name, source in ((SIGNS, "gtsrb"), (TEN, "control"), (THOUSAND, "imagenet")):
        content = lab.label_names(source)
        service.put_label_set(name, content.labels, content.templates)
    for name, budget in BUDGETS.items():
        photos = bed.control[name]
        service.put_control_set(name, name, photos.images, labels=photos.labels, budget=budget)


def accuracy(answers: Sequence[str], labels: Sequence[str]) -> float:
    """Percent of answers equal to their label."""
    right = sum(a == label for a, label in zip(answers, labels, strict=True))
    percent: float = round(100 * right / len(labels), 2)
    return percent


def measure(service: EmendClient, bed: Bed, adapter: str | int) -> dict[str, Any]:
    """Accuracy in percent of one version on everything that is measured, and all its answers."""
    scored = {
        SIGNS: (bed.test, SIGNS),
        TEN: (bed.control[TEN], TEN),
        THOUSAND: (bed.control[THOUSAND], THOUSAND),
        "wide": (bed.wide, THOUSAND),
    }
    measured: dict[str, Any] = {"accuracy": {}, "answers": {}}
    for name, (photos, label_set) in scored.items():
        answers = service.answers(photos.images, label_set=label_set, adapter=adapter)
        measured["answers"][name] = answers
        measured["accuracy"][name] = accuracy(answers, photos.labels)
    say(f"version {adapter}: {measured['accuracy']}")
    return measured


def flips(before: dict[str, Any], after: dict[str, Any], name: str) -> float:
    """Percent of a set's answers that changed."""
    pairs = list(zip(before["answers"][name], after["answers"][name], strict=True))
    percent: float = round(100 * sum(a != b for a, b in pairs) / len(pairs), 2)
    return percent


class PhaseClock:
    """Seconds a job spent in each phase, as its progress told; ``probe`` is told the phase too."""

    def __init__(self, probe: LatencyProbe | None = None) -> None:
        self._probe = probe
        self.seconds: dict[str, float] = {}
        self._phase, self._since = "queued", time.perf_counter()

    def __call__(self, job: dict[str, Any]) -> None:
        now = time.perf_counter()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        progress = job.get("progress") or {}
        phase = progress.get("phase") or job["status"]
        if phase != self._phase:
            say(f"  {phase} {progress.get('step') or ''}")
        self._phase, self._since = phase, now
        if self._probe is not None:
            self._probe.phase = phase

    def summary(self) -> dict[str, float]:
        return {phase: round(s, 1) for phase, s in self.seconds.items() if s > 0.05}


def correct(
    service: EmendClient, photos: Photos, probe: LatencyProbe | None = None
) -> dict[str, Any]:
    """Send one batch, wait until its version is live, and check its photos. Times in seconds.

    ``probe`` asks from when the corrections are accepted until their version is live.
    """
    predicted = service.answers(photos.images, label_set=SIGNS)
    begun = time.perf_counter()
    jobs = service.correct(photos.images, photos.labels, label_set=SIGNS, predicted=predicted)
    clock = PhaseClock(probe)
    with probe or nullcontext():
        ended = [_ended(service, job, clock) for job in jobs]
    version = ended[-1]["adapter"]
    seconds = time.perf_counter() - begun
    answers = service.answers(photos.images, label_set=SIGNS)
    result = {
        "corrections": len(photos.images),
        "jobs": len(jobs),
        "version": version,
        "status": ended[-1]["status"],
        "seconds_to_live": round(seconds, 1),
        "phases_s": clock.summary(),
        "right_before": accuracy(predicted, photos.labels),
        "right_after": accuracy(answers, photos.labels),
        "report": ended[-1]["report"],
        "adapter_bytes": service.adapter(version)["bytes"],
    }
    say(
        f"version {version} {result['status']} after {seconds:.0f} s: "
        f"the live one answers {result['right_after']} % right"
    )
    return result


def _ended(service: EmendClient, job: str, clock: PhaseClock) -> dict[str, Any]:
    """The job at its end; a rejected one is a result too."""
    try:
        return service.wait_job(job, progress=clock)
    except JobEnded as refused:
        if refused.job["status"] != "rejected":
            raise
        say(f"  {refused}")
        return refused.job


def first_job(service: EmendClient, lab: Lab, bed: Bed) -> dict[str, Any]:
    """20 corrections of one class on an idle service."""
    prepare(service, lab, bed)
    batch = bed.batches[0]
    label = batch.labels[FIRST_JOB_CLASS]
    wanted = [image for image, of in zip(batch.images, batch.labels, strict=True) if of == label]
    return correct(service, Photos(wanted, [label] * len(wanted)))


def five_jobs(service: EmendClient, lab: Lab, bed: Bed) -> dict[str, Any]:
    """Five batches one after another, with a client that keeps asking while they are learned."""
    prepare(service, lab, bed)
    before = measure(service, bed, "live")
    url = str(service.http.base_url)
    with LatencyProbe(url, bed.test.images[0], SIGNS) as idle:
        time.sleep(IDLE_SECONDS)  # the length of the measurement, not a wait
    busy = LatencyProbe(url, bed.test.images[0], SIGNS)
    updates = [correct(service, batch, busy) for batch in bed.batches]
    latency = {"idle": idle.summary(), "training": busy.summary()}
    latency["slowest_over_idle_median"] = round(
        latency["training"]["max_ms"] / latency["idle"]["median_ms"], 2
    )
    everything = Photos(
        [image for batch in bed.batches for image in batch.images],
        [label for batch in bed.batches for label in batch.labels],
    )
    kept = accuracy(service.answers(everything.images, label_set=SIGNS), everything.labels)
    after = measure(service, bed, "live")
    largest = max(update["adapter_bytes"] for update in updates)
    return {
        "before": before["accuracy"],
        "after": after["accuracy"],
        "flips": {name: flips(before, after, name) for name in (TEN, THOUSAND, "wide")},
        "all_corrections_right": kept,
        "updates": updates,
        "latency": latency,
        "adapter_share_of_encoder_bytes": round(100 * largest / bed.encoder_bytes, 2),
    }


STAGES: dict[str, tuple[Callable[[EmendClient, Lab, Bed], dict[str, Any]], dict[str, str]]] = {
    "first-job": (first_job, {}),
    "five-jobs": (five_jobs, GATHER),
}


def run_stage(stage: str, lab: Lab, bed: Bed, url: str | None) -> dict[str, Any]:
    """Run one stage against ``url``, or against a fresh service of its own."""
    run, settings = STAGES[stage]
    say(f"stage {stage}")
    if url is not None:
        with EmendClient(url) as service:
            return run(service, lab, bed)
    settings = settings | {"EMEND_ENCODER": str(lab.encoder.resolve())}
    with (
        tempfile.TemporaryDirectory(prefix="emend-loop-") as folder,
        local_service(Path(folder), settings) as service,
    ):
        return run(service, lab, bed)


def main() -> int:
    """Command line: see ``python -m benchmark.loop --help``."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmark.loop")
    parser.add_argument("--lab", type=Path, default=Path("../shared/lab"), help="the lab folder")
    parser.add_argument("--url", help="a running service (default: start one for each stage)")
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument("--shots", type=int, default=20, help="training photos a class")
    parser.add_argument("--seed", type=int, default=0, help="which training photos are drawn")
    add_out(parser, RESULTS)
    options = parser.parse_args()
    stages = list(STAGES) if options.stage == "all" else [options.stage]
    tree = commit_of(parser, options.out, allow_dirty=options.allow_dirty)
    try:
        lab = Lab(options.lab)
        bed = load_bed(lab, shots=options.shots, seed=options.seed)
        for stage in stages:
            result = {
                "stage": stage,
                "seed": options.seed,
                "shots": options.shots,
                "commit": tree,
                "python": platform.python_version(),
                "date": time.strftime("%Y-%m-%d"),
                **run_stage(stage, lab, bed, options.url),
            }
            options.out.mkdir(parents=True, exist_ok=True)
            path = options.out / f"loop-{stage}-seed{options.seed}.json"
            path.write_text(json.dumps(result, indent=1) + "\n")
            say(f"wrote {path}")
    except (DataSetError, ServiceEnded, EmendError, JobEnded) as problem:
        print(f"benchmark stopped: {problem}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
