"""Runs a study: ``python -m benchmark.run lab-continual``; see ``--help`` and benchmark/README.md.

A run that is kept is not made again, unless something that it depends on has changed (the code
aside). A killed run goes on after its last finished update.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.bed import Bed
from benchmark.datasets.missing import DataSetError
from benchmark.experiment import Experiment, ExperimentInvalid, StudyUnknown, load_study, studies
from benchmark.lab import LabMissing
from benchmark.loop import say
from benchmark.places import PlaceMalformed, Places, PlaceUnknown
from benchmark.record import RESULTS, DirtyTree, Record, RecordStore, check_out
from benchmark.runner import Run
from editing.errors import EditError
from encoder.classifier import TextFeatureCache
from encoder.errors import EncoderError

TEXTS = 5000  # labels whose features are kept in memory
RATES = ("learning_rate", "fc1_learning_rate")
PROBLEMS = (
    DataSetError,
    DirtyTree,
    EditError,
    EncoderError,
    ExperimentInvalid,
    LabMissing,
    PlaceMalformed,
    PlaceUnknown,
    StudyUnknown,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 stopped, with a sentence that says why."""
    options = _parser().parse_args(arguments)
    try:
        commit = check_out(options.out, allow_dirty=options.allow_dirty)
        experiments = load_study(options.study, names=options.names, changes=_changes(options))
        if options.validate:
            experiments = [at_pace(each, pace) for each in experiments for pace in options.validate]
        places = Places.of(options.place, validation=bool(options.validate))
        _run_all(experiments, places, commit, options)
    except PROBLEMS as problem:
        print(f"the study stopped: {problem}", file=sys.stderr)
        return 1
    return 0


def at_pace(experiment: Experiment, factor: float) -> Experiment:
    """The same with all step sizes times `factor`, under a name of its own."""
    if experiment.method is None:
        return experiment
    whole = experiment.parsed().model_dump(mode="json")
    rates = {key: whole[key] * factor for key in RATES if key in whole}
    name = f"{experiment.name}-x{factor:g}"
    return experiment.model_copy(update={"name": name, "config": {**experiment.config, **rates}})


def _run_all(
    experiments: Sequence[Experiment], places: Places, commit: str, options: argparse.Namespace
) -> None:
    store = RecordStore(options.out / "validation" if places.validation else options.out)
    beds: dict[tuple[Any, ...], Bed] = {}
    wanted = [(each, seed) for each in experiments for seed in options.seeds or each.seeds]
    wanted.sort(key=lambda pair: pair[1])  # a whole table of the first seed, then of the next
    for number, (experiment, seed) in enumerate(wanted, start=1):
        told = experiment
        which = (told.encoder, told.pretrained, told.data, told.controls)
        if which not in beds:
            beds = {which: _bed(experiment, places, options.work)}  # one at a time: they are large
        run = Run(experiment, seed, options.work / commit / told.study)
        say(f"{number} of {len(wanted)}: {told.study}/{run.key}")
        kept = store.find(told.study, run.key, run.facts(beds[which]))
        record = kept or run.make(beds[which], commit)
        if kept is None:
            store.save(record, run.key)
        say(_told(record, kept=kept is not None))


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
        "training photos only, cut by group; results in a folder of their own")  # fmt: skip
    add("--out", type=Path, default=RESULTS, help="folder of the results")
    work = Path(tempfile.gettempdir()) / "emend-benchmark"
    add("--work", type=Path, default=work, help="folder of what is under way")
    add("--allow-dirty", action="store_true", help="keep results of code that is not committed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
