"""The story in eight steps, told over HTTP only; every number printed was measured in this run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from client import EmendClient, JobEnded
from demo.interview import Interview, Said
from demo.photos import Material, Pictures

LABEL_SET, CONTROL_SET = "demo", "photographs"
# Percent of control answers that may change. The bundled encoder knows none of these pictures: its
# first answer has a median probability of a third, so many of them hang by a thread.
BUDGET = 12.0


@dataclass(frozen=True)
class Answers:
    """First labels of one version on everything that the demo looks at."""

    corrections: list[str]
    held_out: list[str]
    control: list[str]
    unseen: list[str]


@dataclass(frozen=True)
class Told:
    """What one run measured. Accuracies and flips in percent."""

    version: int
    seconds_to_live: float
    corrections: tuple[float, float]
    held_out: tuple[float, float]
    control_flips: float
    unseen_flips: float
    adapter_bytes: int
    encoder_bytes: int
    restored: bool
    said: tuple[Said, ...] = ()
    """before, after, and after the rollback; nothing without a vision-language model"""


class Story:
    """One run against a ready service."""

    def __init__(
        self, service: EmendClient, material: Material, *, distractors: Sequence[str], out: Console
    ) -> None:
        self.service = service
        self.material = material
        self.interview = Interview(service, material)
        self.out = out
        own = dict.fromkeys(material.corrections.labels)
        self.labels = [*own, *(name for name in distractors if name not in own)]

    def tell(self) -> Told:
        """Run every step. Raises EmendError or JobEnded where the service refuses one."""
        live = self.service.adapter("live")
        self._prepare()
        before = self._ask("Asking the encoder as it is")
        wrong = _wrong(before.corrections, self.material.corrections)
        speaks = self.interview.possible
        misnamed = self.interview.find_mistake(wrong) if speaks else None
        shown = next(iter(wrong), 0) if misnamed is None else misnamed
        said = [self.interview.say(shown)] if speaks else []
        self._show(shown, before, said)
        begun = time.perf_counter()
        version = self._correct(before)
        seconds = time.perf_counter() - begun
        if speaks:
            version = self._correct_words(shown, version)
        after = self._ask("Asking the live encoder again")
        said += [self.interview.say(shown)] if speaks else []
        self.service.promote(live["version"], "demo: show the old answer again")
        said += [self.interview.say(shown)] if speaks else []
        old = self.service.answers([self.material.corrections.images[shown]], label_set=LABEL_SET)
        adapter = self.service.adapter(version)
        told = Told(
            version=version,
            seconds_to_live=seconds,
            corrections=_both(before.corrections, after.corrections, self.material.corrections),
            held_out=_both(before.held_out, after.held_out, self.material.held_out),
            control_flips=_flips(before.control, after.control),
            unseen_flips=_flips(before.unseen, after.unseen),
            adapter_bytes=adapter["bytes"],
            encoder_bytes=adapter["base"]["bytes"],
            restored=old[0] == before.corrections[shown] and said[:1] == said[2:],
            said=tuple(said),
        )
        self._print(told, self.material.corrections.labels[shown], before, after, shown, old[0])
        return told

    def _prepare(self) -> None:
        self.service.put_label_set(LABEL_SET, self.labels, [self.material.template])
        self.service.put_control_set(CONTROL_SET, LABEL_SET, self.material.control, budget=BUDGET)
        self.out.print(
            f"{self.material.what}: {len(self.material.corrections.images)} photos to correct, "
            f"{len(self.material.held_out.images)} held out, {len(self.labels)} possible answers, "
            f"{len(self.material.control)} control photos sent, "
            f"{len(self.material.unseen)} never sent"
        )

    def _ask(self, doing: str) -> Answers:
        with self.out.status(doing):
            ask = self.service.answers
            return Answers(
                corrections=ask(self.material.corrections.images, label_set=LABEL_SET),
                held_out=ask(self.material.held_out.images, label_set=LABEL_SET),
                control=ask(self.material.control, label_set=LABEL_SET),
                unseen=ask(self.material.unseen, label_set=LABEL_SET),
            )

    def _show(self, shown: int, before: Answers, said: Sequence[Said]) -> None:
        """Say what is wrong with one photo."""
        label, found = self.material.corrections.labels[shown], before.corrections[shown]
        self.out.print(f"Photo {shown} shows [b]{label}[/b]; the encoder says [b]{found}[/b].")
        for each in said:
            self.out.print(
                f'Asked "{self.interview.question}", the model says [b]{each.words}[/b].'
            )

    def _correct(self, before: Answers) -> int:
        """Send every label, follow the jobs, return the live version."""
        self.out.print("Sending the corrections ...")
        given = self.material.corrections
        jobs = self.service.correct(
            given.images, given.labels, label_set=LABEL_SET, predicted=before.corrections
        )
        return self._follow(jobs)

    def _correct_words(self, shown: int, version: int) -> int:
        """Send the right answer about one photo where the model gives another one over the version
        that the labels made. Returns the live version: the former, where the gate refuses."""
        label, words = self.material.corrections.labels[shown], self.interview.words(shown)
        self.out.print(f'Asked "{self.interview.question}" now, the model says [b]{words}[/b].')
        if words == label:
            return version
        self.out.print("Sending the answer as one more correction ...")
        try:
            return self._follow(self.interview.correct(shown, words))
        except JobEnded as ended:
            if ended.job["status"] != "rejected":
                raise
            self.out.print(f"The gate refuses that edit: {ended}", highlight=False)
            return version

    def _follow(self, jobs: Sequence[str]) -> int:
        """Wait for these edit jobs, and until the last one's version is live."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self.out) as bar:
            task = bar.add_task("waiting", total=None)

            def show(job: dict[str, Any]) -> None:
                progress = job.get("progress") or {}
                bar.update(
                    task,
                    description=f"edit job: {progress.get('phase') or job['status']}",
                    total=progress.get("steps") or None,
                    completed=progress.get("step") or 0,
                )

            version = 0
            for job in jobs:
                version = int(self.service.wait_job(job, progress=show)["adapter"])
        while int(self.service.adapter("live")["version"]) != version:
            time.sleep(0.02)
        return version

    def _print(
        self, told: Told, label: str, before: Answers, after: Answers, shown: int, old: str
    ) -> None:
        table = Table("", "before", "after", title=f"version {told.version}")
        table.add_row("corrected photos right", *(f"{x:.1f} %" for x in told.corrections))
        table.add_row(
            "held-out photos of the same labels right", *(f"{x:.1f} %" for x in told.held_out)
        )
        table.add_row("control photos sent: answers changed", "", f"{told.control_flips:.1f} %")
        table.add_row(
            "control photos never sent: answers changed", "", f"{told.unseen_flips:.1f} %"
        )
        table.add_row("seconds from correction to live", "", f"{told.seconds_to_live:.1f}")
        share = 100 * told.adapter_bytes / told.encoder_bytes
        table.add_row(
            "adapter's file against encoder in memory",
            f"{told.encoder_bytes / 1e6:.1f} MB",
            f"{told.adapter_bytes / 1e6:.2f} MB ({share:.1f} %)",
        )
        table.add_row(
            f"photo {shown} ({label})", before.corrections[shown], after.corrections[shown]
        )
        table.add_row(f"photo {shown} after the rollback", "", old)
        if told.said:
            first, second, last = told.said
            words = f'"{self.interview.question}"'
            table.add_row(
                f"{words} of held-out photos, right",
                f"{first.right:.1f} %",
                f"{second.right:.1f} %",
            )
            table.add_row(f"{words} of photo {shown}", first.words, second.words)
            table.add_row(f"{words} after the rollback", "", last.words)
        self.out.print(table)


def _wrong(answers: list[str], truth: Pictures) -> list[int]:
    """Numbers of the photos that were given a wrong label."""
    pairs = zip(answers, truth.labels, strict=True)
    return [number for number, (answer, label) in enumerate(pairs) if answer != label]


def _both(before: list[str], after: list[str], truth: Pictures) -> tuple[float, float]:
    return _accuracy(before, truth.labels), _accuracy(after, truth.labels)


def _accuracy(answers: list[str], labels: list[str]) -> float:
    return 100 * sum(a == b for a, b in zip(answers, labels, strict=True)) / len(labels)


def _flips(before: list[str], after: list[str]) -> float:
    return 100 * sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
