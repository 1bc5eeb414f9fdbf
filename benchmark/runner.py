"""One run of an experiment: edits, questions after each of them, a record in the end."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.bed import Bed, Lesson, Sheet
from benchmark.datasets.missing import NothingToAsk
from benchmark.edit_store import EditStore
from benchmark.experiment import Experiment
from benchmark.loop import say
from benchmark.memory import forget_peak, peak_bytes
from benchmark.metrics import flips, percent, task_accuracies
from benchmark.protocol import Edited, Guard, Stream
from benchmark.record import Asked, Record, UpdateRow, libraries, write_json
from benchmark.within import largest_kept
from editing.fewshot import choose_guard
from editing.methods import Fit
from encoder.clip import Encoder
from encoder.errors import EncoderError

QUIET = 20.0  # seconds between two lines of progress


class RunUnderWay(Exception):
    """Another process makes the same run in the same working folder."""

    def __init__(self, key: str, work: Path) -> None:
        super().__init__(
            f"another process makes {key} in {work}: wait for it, or name another --work"
        )


class Ticker:
    """Progress of a fit as a line now and then."""

    def __init__(self, title: str) -> None:
        self._title, self._last = title, time.monotonic()

    def __call__(self, phase: str, step: int, steps: int, loss: float | None) -> None:
        if time.monotonic() - self._last >= QUIET:
            self._last = time.monotonic()
            told = "" if loss is None else f", loss {loss:.3f}"
            say(f"  {self._title}: {phase} {step} of {steps}{told}")


@dataclass(frozen=True)
class Run:
    """An experiment with one seed. `work` is a folder for what is under way."""

    experiment: Experiment
    seed: int
    work: Path

    @property
    def key(self) -> str:
        """Its file's name; runs of other shots or updates lie beside it."""
        told = self.experiment
        return f"{told.name}-{told.shots or 'all'}x{told.updates}-seed{self.seed}"

    def facts(self, bed: Bed) -> dict[str, Any]:
        """All that its numbers depend on, but for the code."""
        edited = self.experiment.method is not None
        return {
            **self.experiment.facts,
            "taught": bed.taught if edited else "",
            "seed": self.seed,
            "base": bed.base.digest,
            "asked": {s.name: s.digest for s in (bed.target, *bed.controls.values())},
        }

    def named(self, record: Record) -> Record:
        """A run of the same facts, as this one's."""
        told = self.experiment
        return replace(record, study=told.study, name=told.name, title=told.title)

    def make(self, bed: Bed, commit: str) -> Record:
        """Edit and ask; goes on after the last update that `work` holds.

        Raises EditError, NothingToAsk, RunUnderWay.
        """
        with self._alone():
            return self._make(bed, commit)

    def _make(self, bed: Bed, commit: str) -> Record:
        began, cpu = time.monotonic(), time.process_time()
        forget_peak()
        facts, probe = self.facts(bed), bed.probe(self.experiment.probe)
        lessons = self._lessons(bed)
        tasks = [lesson.labels for lesson in lessons]
        _refuse_empty(bed, probe, lessons)
        rows, live = self._under_way(bed, facts)
        began -= sum(row.seconds for row in rows)  # of the process that was killed
        cpu -= sum(row.cpu_seconds for row in rows)
        flops = 0
        if self.experiment.method is not None:
            stream = self._stream(bed, lessons)
            flops = stream.step_flops()
            progress = Ticker(self.key)
            for edited in stream.run(after=(len(rows), live), progress=progress):
                live = edited.encoder
                rows.append(self._row(bed, edited, probe, tasks))
                say(f"  update {edited.number} of {len(lessons)}: {_told(rows[-1])}")
                self._keep(bed, facts, rows, live)
        answers = bed.before
        if live is not bed.base:
            answers = bed.ask(live, [bed.target, *bed.controls.values()])
        return Record(
            study=self.experiment.study,
            name=self.experiment.name,
            title=self.experiment.title,
            seed=self.seed,
            facts=facts,
            commit=commit,
            libraries=libraries(),
            threads=torch.get_num_threads(),
            seconds=round(time.monotonic() - began, 1),
            cpu_seconds=round(time.process_time() - cpu, 1),
            peak_memory=peak_bytes(),
            parameters=max((row.parameters for row in rows), default=0),
            step_flops=flops,
            target=_asked(bed, bed.target, answers),
            controls={n: _asked(bed, sheet, answers) for n, sheet in bed.controls.items()},
            reliability=None if not rows else _reliability(bed, live, lessons),
            updates=tuple(rows),
            unseen=_unseen(bed, self._guard(bed), answers),
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / f"{self.key}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as taken:
                raise RunUnderWay(self.key, self.work) from taken
            yield

    def _lessons(self, bed: Bed) -> list[Lesson]:
        if self.experiment.method is None:
            return []
        told = self.experiment
        return bed.lessons(updates=told.updates, shots=told.shots, seed=self.seed)

    def _stream(self, bed: Bed, lessons: Sequence[Lesson]) -> Stream:
        told = self.experiment
        return Stream(
            base=bed.base,
            prompts=bed.target.prompts,
            texts=lambda encoder: bed.texts_of(encoder, bed.target),
            lessons=lessons,
            guard=Guard.of(bed.base, self._guard(bed)),
            protocol=told.protocol,
            config=told.parsed(),
            seed=self.seed,
            strength_of=self._strength_of(bed),
        )

    def _strength_of(self, bed: Bed) -> Callable[[Encoder, Fit], float]:
        within = self.experiment.within
        if not within:
            return lambda *_: 1.0
        return lambda start, fitted: largest_kept(bed, start, fitted, within)

    def _guard(self, bed: Bed) -> Tensor:
        """uint8 [G, 3, S, S]"""
        if not self.experiment.guard:
            return bed.target.pixels[:0]
        sheet = bed.controls[self.experiment.guard]
        count = self.experiment.parsed().guard_images
        [rows] = choose_guard([sheet.names], count=count, seed=self.seed)
        return sheet.pixels[rows]

    def _row(
        self, bed: Bed, edited: Edited, probe: Sheet, tasks: Sequence[Sequence[int]]
    ) -> UpdateRow:
        watched = [bed.controls[name] for name in self.experiment.watched if name in bed.controls]
        answers = bed.ask(edited.encoder, [replace(probe, name="probe"), *watched])
        mine = answers["probe"]
        return UpdateRow(
            number=edited.number,
            images=edited.images,
            steps=edited.steps,
            loss=edited.loss,
            parameters=edited.parameters,
            cpu_seconds=edited.cpu_seconds,
            seconds=edited.seconds,
            tasks=tuple(round(each, 2) for each in task_accuracies(mine, probe.targets, tasks)),
            probe=round(percent(mine == probe.targets), 2),
            controls={s.name: round(percent(answers[s.name] == s.targets), 2) for s in watched},
            strength=edited.strength,
        )

    def _under_way(self, bed: Bed, facts: Mapping[str, Any]) -> tuple[list[UpdateRow], Encoder]:
        """What a killed run of the same facts has left: rows, and the encoder after the last."""
        path = self.work / f"{self.key}.rows.json"
        if not path.exists():
            return [], bed.base
        told = json.loads(path.read_text("utf-8"))
        rows = [UpdateRow(**{**row, "tasks": tuple(row["tasks"])}) for row in told["rows"]]
        try:
            found = EditStore(self.work).find(self.key, bed.base, {**facts, "update": len(rows)})
        except EncoderError:  # killed between the snapshot and its facts
            found = None
        if told["facts"] != json.loads(json.dumps(facts)) or found is None:
            return [], bed.base
        say(f"  goes on after update {len(rows)}")
        return rows, found[0]

    def _keep(
        self, bed: Bed, facts: Mapping[str, Any], rows: Sequence[UpdateRow], live: Encoder
    ) -> None:
        EditStore(self.work).save(self.key, bed.base, live, {**facts, "update": len(rows)})
        told = {"facts": dict(facts), "rows": [asdict(row) for row in rows]}
        write_json(self.work / f"{self.key}.rows.json", told)


def _refuse_empty(bed: Bed, probe: Sheet, lessons: Sequence[Lesson]) -> None:
    for sheet in (bed.target, *bed.controls.values()):
        if not sheet.names:
            raise NothingToAsk(sheet.name, "the set has no photos to ask about")
    for number, lesson in enumerate(lessons, start=1):
        if not len(lesson.targets):
            raise NothingToAsk(bed.data.name, f"update {number} has no photos to teach")
        if not set(lesson.labels) & set(probe.targets.tolist()):
            raise NothingToAsk(bed.data.name, f"update {number} has no photos to ask about")


def _unseen(bed: Bed, guard: Tensor, answers: Mapping[str, Tensor]) -> dict[str, Asked]:
    told = {}
    for name, sheet in bed.controls.items():
        rows = sheet.apart_from(guard) if len(guard) else []
        if 0 < len(rows) < len(sheet.names):
            told[name] = _asked(bed, sheet, answers, rows)
    return told


def _asked(
    bed: Bed, sheet: Sheet, answers: Mapping[str, Tensor], rows: Sequence[int] | None = None
) -> Asked:
    before, after = bed.before[sheet.name], answers[sheet.name]
    if rows is not None:
        sheet, before, after = sheet.at(rows), before[list(rows)], after[list(rows)]
    return Asked(
        photos=len(sheet.names),
        digest=sheet.digest,
        before=round(percent(before == sheet.targets), 3),
        after=round(percent(after == sheet.targets), 3),
        flips=round(flips(before, after), 3),
    )


def _reliability(bed: Bed, encoder: Encoder, lessons: Sequence[Lesson]) -> float:
    pixels = torch.cat([lesson.pixels for lesson in lessons])
    targets = torch.cat([lesson.targets for lesson in lessons])
    names = tuple(str(row) for row in range(len(targets)))
    asked = replace(bed.target, name="taught", names=names, pixels=pixels, targets=targets)
    return round(percent(bed.ask(encoder, [asked])["taught"] == targets), 3)


def _told(row: UpdateRow) -> str:
    controls = ", ".join(f"{name} {value:.1f}" for name, value in row.controls.items())
    return f"{row.steps} steps, {row.seconds:.0f} s, probe {row.probe:.1f}, {controls}"
