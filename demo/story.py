"""The story in seven steps, told over HTTP only; every number printed was measured in this run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from client import EmendClient
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


class Story:
    """One run against a ready service."""

    def __init__(
        self, service: EmendClient, material: Material, *, distractors: Sequence[str], out: Console
    ) -> None:
        self.service = service
        self.material = material
        self.out = out
        own = dict.fromkeys(material.corrections.labels)
        self.labels = [*own, *(name for name in distractors if name not in own)]

    def tell(self) -> Told:
        """Run every step. Raises EmendError or JobEnded where the service refuses one."""
        live = self.service.adapter("live")
        self._prepare()
        before = self._ask("Asking the encoder as it is")
        shown = self._show_a_mistake(before)
        begun = time.perf_counter()
        version = self._correct(before)
        seconds = time.perf_counter() - begun
        after = self._ask("Asking the live encoder again")
        self.service.promote(live["version"], "demo: show the old answer again")
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
            restored=old[0] == before.corrections[shown],
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

    def _show_a_mistake(self, before: Answers) -> int:
        """The first photo whose answer is wrong (or simply the first, where all are right)."""
        labels = self.material.corrections.labels
        pairs = zip(before.corrections, labels, strict=True)
        shown = next((i for i, (answer, label) in enumerate(pairs) if answer != label), 0)
        self.out.print(
            f"Photo {shown} shows [b]{labels[shown]}[/b]; "
            f"the encoder says [b]{before.corrections[shown]}[/b]. Sending the corrections ..."
        )
        return shown

    def _correct(self, before: Answers) -> int:
        """Send every correction, follow the jobs, return the live version."""
        given = self.material.corrections
        jobs = self.service.correct(
            given.images, given.labels, label_set=LABEL_SET, predicted=before.corrections
        )
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
            "adapter against encoder",
            f"{told.encoder_bytes / 1e6:.1f} MB",
            f"{told.adapter_bytes / 1e6:.2f} MB ({share:.1f} %)",
        )
        table.add_row(
            f"photo {shown} ({label})", before.corrections[shown], after.corrections[shown]
        )
        table.add_row(f"photo {shown} after the rollback", "", old)
        self.out.print(table)


def _both(before: list[str], after: list[str], truth: Pictures) -> tuple[float, float]:
    return _accuracy(before, truth.labels), _accuracy(after, truth.labels)


def _accuracy(answers: list[str], labels: list[str]) -> float:
    return 100 * sum(a == b for a, b in zip(answers, labels, strict=True)) / len(labels)


def _flips(before: list[str], after: list[str]) -> float:
    return 100 * sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
