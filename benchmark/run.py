"""Runs a study: ``python -m benchmark.run lab-continual``; see ``--help`` and benchmark/README.md.

A run that is kept is not made again, unless something that it depends on has changed (the code
aside); one that another study keeps is taken from there. A killed run goes on after its last
finished update.

``python -m benchmark.run backbones`` is `benchmark.backbones`: what a step and an epoch cost.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.backbones import __main__ as backbones
from benchmark.bed import Bed
from benchmark.datasets.missing import DataSetError
from benchmark.experiment import (
    Experiment,
    ExperimentInvalid,
    StudyUnknown,
    experiment_names,
    load_study,
    studies,
)
from benchmark.lab import LabMissing
from benchmark.loop import say
from benchmark.places import PlaceMalformed, Places, PlaceUnknown
from benchmark.record import (
    RESULTS,
    DirtyTree,
    Record,
    RecordStore,
    RecordUnreadable,
    check_out,
    code_digest,
)
from benchmark.runner import Run, RunUnderWay
from editing.errors import EditError
from encoder.classifier import TextFeatureCache
from encoder.errors import EncoderError

TEXTS = 5000  # labels whose features are kept in memory
RATES = ("learning_rate", "fc1_learning_rate")
OF_ITS_OWN = ("epochs", "encoder", "pretrained", "data", "controls")
"""Options that make another study: their results lie apart from those of the files' settings."""


class NotAControl(Exception):
    """The name of an experiment stands where names of control sets stand."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is an experiment, no control set: name it before --controls")


PROBLEMS = (
    DataSetError,
    DirtyTree,
    EditError,
    EncoderError,
    ExperimentInvalid,
    LabMissing,
    NotAControl,
    OSError,
    PlaceMalformed,
    PlaceUnknown,
    RecordUnreadable,
    RunUnderWay,
    StudyUnknown,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 stopped, with a sentence that says why; 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["backbones"]:
        return backbones.main(arguments[1:])
    options = _parser().parse_intermixed_args(arguments)
    try:
        commit = check_out(options.out, allow_dirty=options.allow_dirty)
        _refuse_swallowed(options)
        experiments = load_study(options.study, names=options.names, changes=_changes(options))
        study = study_of(options.study, {name: getattr(options, name) for name in OF_ITS_OWN})
        experiments = [each.model_copy(update={"study": study}) for each in experiments]
        if options.validate:
            experiments = [at_pace(each, pace) for each in experiments for pace in options.validate]
        places = Places.of(options.place, validation=bool(options.validate))
        _run_all(experiments, places, commit, options)
    except PROBLEMS as problem:
        print(f"the study stopped: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on after the last update", file=sys.stderr)
        return 130
    return 0


def study_of(study: str, changes: Mapping[str, Any]) -> str:
    """The folder of its results: with other settings than the files' one of its own, so that
    neither replaces the other's runs nor stands in its table."""
    marks = [study]
    for name, value in changes.items():
        if value is not None:
            told = "+".join(value) if isinstance(value, list) else str(value).removesuffix(".0")
            marks.append(f"{name}={re.sub(r'[^A-Za-z0-9.+_-]+', '-', told)}")
    return ",".join(marks)


def _refuse_swallowed(options: argparse.Namespace) -> None:
    names = experiment_names(options.study)
    for control in options.controls or ():
        if control in names:
            raise NotAControl(control)


def _ready(*folders: Path) -> None:
    """Made and writable, before hours of work. Raises OSError."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def at_pace(experiment: Experiment, factor: float) -> Experiment:
    """The same with all step sizes times `factor`, to three digits, under a name of its own: that
    of the first of them, so that it stays the same when the file's step sizes change.

    Raises InvalidConfig for a step size that is none.
    """
    if experiment.method is None:
        return experiment
    whole = experiment.parsed().model_dump(mode="json")
    rates = {key: float(f"{whole[key] * factor:.3g}") for key in RATES if key in whole}
    told = f"{next(iter(rates.values())):g}"
    changes = {
        "name": f"{experiment.name}-at-{told}",
        "title": f"{experiment.title}, step size {told}",
        "config": {**experiment.config, **rates},
    }
    changed = experiment.model_copy(update=changes)
    changed.parsed()
    return changed


def _run_all(
    experiments: Sequence[Experiment], places: Places, commit: str, options: argparse.Namespace
) -> None:
    store = RecordStore(options.out / "validation" if places.validation else options.out)
    beds: dict[tuple[Any, ...], Bed] = {}
    wanted = [(each, seed) for each in experiments for seed in options.seeds or each.seeds]
    wanted.sort(key=lambda pair: pair[1])  # a whole table of the first seed, then of the next
    work, made = options.work / code_digest(), 0
    _ready(options.out, work)
    began = time.monotonic()
    for number, (experiment, seed) in enumerate(wanted, start=1):
        told = experiment
        which = (told.encoder, told.pretrained, told.data, told.controls)
        if which not in beds:
            beds = {which: _bed(experiment, places, options.work)}  # one at a time: they are large
        run = Run(experiment, seed, work / told.study)
        say(f"{number} of {len(wanted)}: {told.study}/{run.key}")
        facts = run.facts(beds[which])
        kept = store.find(told.study, run.key, facts)
        same = kept or store.elsewhere(facts)
        record = run.named(same) if same else run.make(beds[which], commit)
        if kept is None:
            store.save(record, run.key)
            made += same is None
        say(_told(record, kept=same is not None))
        if made and number < len(wanted):
            minutes = (time.monotonic() - began) / 60 / made * (len(wanted) - number)
            say(f"  {minutes:.0f} minutes left at this pace")


def _bed(experiment: Experiment, places: Places, work: Path) -> Bed:
    data, controls = places.data(experiment.data), places.controls(experiment.controls)
    cache = TextFeatureCache(TEXTS, work / "texts")
    return Bed(places.encoder(experiment), data, controls, cache=cache)


def _told(record: Record, *, kept: bool) -> str:
    controls = ", ".join(
        f"{name} {each.after - each.before:+.1f} ({each.flips:.1f} % flips)"
        for name, each in record.controls.items()
    )
    manner = "kept" if kept else f"{record.seconds:.0f} s"
    target = record.target
    return f"  {manner}: target {target.before:.1f} -> {target.after:.1f}; {controls}"


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    names = ("shots", "updates", "encoder", "pretrained", "data", "controls")
    told = {name: getattr(options, name) for name in names}
    changes: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if options.epochs is not None:
        changes["config"] = {"epochs": options.epochs}
    return changes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark.run", description=__doc__)
    add = parser.add_argument
    add("study", help=f"one of {', '.join(studies())}")
    add("names", nargs="*", help="experiments of it; all of them if none is named")
    add("--place", action="append", default=[], metavar="NAME=FOLDER", help="where a set lies")
    add("--seeds", nargs="+", type=int, help="instead of the files'")
    add("--shots", type=int, help="photos a class, 0: all")
    add("--updates", type=int, help="in which the classes come")
    add("--epochs", type=float, help="passes over each update's photos")
    add("--encoder", help="as the service's EMEND_ENCODER")
    add("--pretrained", help="tag or file of its weights")
    add("--data", help="what is learnt")
    add("--controls", nargs="*", help="what must not change")
    add("--validate", nargs="+", type=float, metavar="FACTOR", help="step sizes times these, on "
        "training photos only, cut by group; results in a folder of their own; control sets are "
        "asked as ever")  # fmt: skip
    add("--out", type=Path, default=RESULTS, help="folder of the results")
    work = Path(tempfile.gettempdir()) / "emend-benchmark"
    add("--work", type=Path, default=work, help="folder of what is under way")
    add("--allow-dirty", action="store_true", help="keep results of code that is not committed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
