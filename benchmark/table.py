"""The tables of a study as Markdown: ``python -m benchmark.table lab-continual``.

Mean ± sample deviation over seeds. Runs of other data or shots stand in tables of their own; runs
that were asked other photos are refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from benchmark.metrics import average_accuracy, backward_transfer, forgetting
from benchmark.record import RESULTS, Asked, Record, RecordStore, RecordUnreadable
from benchmark.vqa.scoring import Spread

Group = tuple[str, int]
"""Data and shots."""


class NothingKept(Exception):
    """A study without results."""

    def __init__(self, study: str, out: Path) -> None:
        super().__init__(f"{out} holds no results of {study}: python -m benchmark.run {study}")


class RunsDiffer(Exception):
    """Two runs were asked different photos, or of different base encoders."""

    def __init__(self, one: Record, other: Record) -> None:
        super().__init__(
            f"{one.name} (seed {one.seed}) and {other.name} (seed {other.seed}) were asked "
            "different photos, or by different encoders"
        )


class RunsMixed(Exception):
    """Two runs of one row have other settings than the seed in which they differ."""

    def __init__(self, one: Record, other: Record) -> None:
        mine, its = _settings(one), _settings(other)
        told = sorted(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))
        super().__init__(
            f"{one.name} has other settings with seed {one.seed} than with seed {other.seed} "
            f"({', '.join(told)}): run the study again for all seeds"
        )


def tables(records: Sequence[Record]) -> str:
    """All tables of these runs. Raises RunsDiffer, RunsMixed."""
    parts = []
    for group, runs in grouped(records):
        data, shots = group
        told = f"{shots} photos a class" if shots else "all training photos"
        parts.append(f"**{data}, {told}**\n\n{_table(runs)}\n{_made_with(runs)}\n")
    return "\n".join(parts)


def grouped(records: Iterable[Record]) -> list[tuple[Group, list[Record]]]:
    """Runs that may stand in one table; those without an edit stand in all of the same data.

    Raises RunsDiffer, RunsMixed.
    """
    edited = sorted((each for each in records if each.facts["method"] is not None), key=group_of)
    plain = [each for each in records if each.facts["method"] is None]
    groups = [(group, list(runs)) for group, runs in groupby(edited, group_of)]
    if not groups and plain:
        return [(group_of(plain[0]), plain[:1])]
    whole = []
    for group, runs in groups:
        unedited = [each for each in plain if each.facts["data"] == group[0]][:1]
        whole.append((group, _comparable([*unedited, *runs])))
    return whole


def group_of(record: Record) -> Group:
    """Which table a run stands in."""
    return record.facts["data"], record.facts["shots"]


def spread(
    runs: Sequence[Record],
    value: Callable[[Record], float],
    *,
    signed: bool = False,
    decimals: int = 1,
) -> str:
    """Mean ± deviation over runs; with `signed` gains have a sign, too."""
    told = Spread.of([value(run) for run in runs])
    shown = f"{told.mean:{'+' if signed else ''}.{decimals}f}".replace("-", "−")
    return shown + (f" ± {told.deviation:.{decimals}f}" if told.count > 1 else "")


def _comparable(runs: list[Record]) -> list[Record]:
    def asked(record: Record) -> tuple[object, ...]:
        controls = sorted((name, each.digest) for name, each in record.controls.items())
        return record.facts["base"], record.target.digest, controls

    for run in runs[1:]:
        if asked(run) != asked(runs[0]):
            raise RunsDiffer(run, runs[0])
    rows: dict[tuple[str, int], Record] = {}
    for run in runs:
        first = rows.setdefault((run.name, run.facts["updates"]), run)
        if _settings(run) != _settings(first):
            raise RunsMixed(run, first)
    return runs


def _settings(run: Record) -> dict[str, object]:
    """All that it depends on but the seed, by name, the method's as "config.<name>"."""
    told = {name: value for name, value in run.facts.items() if name not in ("seed", "config")}
    return told | {f"config.{name}": v for name, v in run.facts.get("config", {}).items()}


def _made_with(runs: Sequence[Record]) -> str:
    """Which code and libraries the numbers come from."""
    libraries = {f"{name} {told}" for run in runs for name, told in run.libraries.items()}
    return f"*Code {', '.join(sorted({r.commit for r in runs}))}; {', '.join(sorted(libraries))}.*"


def _table(runs: Sequence[Record]) -> str:
    controls = list(runs[0].controls)
    stream = any(len(run.updates) > 1 for run in runs)
    limited = any(_limited(run) for run in runs)
    head = ["method", "updates", "seeds", "target %", "change", "taught %"]
    head += ["strength"] if limited else []
    head += ["ACC", "BWT", "forgetting"] if stream else []
    for name in controls:
        head += [f"{name.rpartition('/')[2]} %", "change", "flips %"]
        head += ["change, unseen", "flips %, unseen"] if _guarded(runs, name) else []
    head += ["numbers trained", "GFLOPs a step", "minutes"]
    lines = [_row(head), _row(["---"] * len(head))]
    by_name = [(name, list(same)) for name, same in groupby(sorted(runs, key=_order), _order)]
    shown = {name: _guarded(runs, name) for name in controls}
    lines += [_row(_cells(same, shown, stream=stream, limited=limited)) for _, same in by_name]
    return "\n".join(lines) + "\n"


def _order(run: Record) -> tuple[bool, str, int]:
    return run.facts["method"] is not None, run.name, run.facts["updates"]


def _guarded(runs: Sequence[Record], control: str) -> bool:
    """Whether photos of this control set held some edit back, which says less of those photos."""
    return any(control in run.unseen for run in runs)


def _limited(run: Record) -> bool:
    """Whether its edits had no more strength than control sets bear."""
    return bool(run.facts.get("within"))


def _cells(
    runs: Sequence[Record], controls: Mapping[str, bool], *, stream: bool, limited: bool
) -> list[str]:
    """A row; `controls` says of which sets the photos that no edit was held back by stand apart."""
    first, edited = runs[0], runs[0].facts["method"] is not None
    updates = str(first.facts["updates"]) if edited else ""
    cells = [first.title, updates, str(len(runs)), spread(runs, lambda run: run.target.after)]
    cells.append(_change(runs, lambda run: run.target) if edited else "")
    cells.append(spread(runs, lambda run: run.reliability or 0.0) if edited else "")
    if limited:
        held = edited and all(_limited(run) for run in runs)
        cells.append(spread(runs, lambda run: run.updates[-1].strength, decimals=2) if held else "")
    if stream:
        measures = (average_accuracy, backward_transfer, forgetting)
        cells += [
            spread(runs, lambda run, m=measure: m(run.matrix)) if len(first.updates) > 1 else ""  # type: ignore[misc]
            for measure in measures
        ]
    for name, apart in controls.items():
        cells.append(spread(runs, lambda run, n=name: run.controls[n].after))  # type: ignore[misc]
        cells.append(_change(runs, lambda run, n=name: run.controls[n]) if edited else "")  # type: ignore[misc]
        cells.append(spread(runs, lambda run, n=name: run.controls[n].flips) if edited else "")  # type: ignore[misc]
        if apart:
            some = edited and all(name in run.unseen for run in runs)
            cells.append(_change(runs, lambda run, n=name: run.unseen[n]) if some else "")  # type: ignore[misc]
            cells.append(spread(runs, lambda run, n=name: run.unseen[n].flips) if some else "")  # type: ignore[misc]
    if not edited:
        return [*cells, "0", "", ""]
    cells += [f"{first.parameters:,}", f"{first.step_flops / 1e9:.0f}"]
    return [*cells, spread(runs, _minutes)]


def _minutes(run: Record) -> float:
    """CPU minutes of fitting, without questions."""
    return sum(row.cpu_seconds for row in run.updates) / 60


def _change(runs: Sequence[Record], asked: Callable[[Record], Asked]) -> str:
    return spread(runs, lambda run: asked(run).after - asked(run).before, signed=True)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def show_studies(
    arguments: Sequence[str] | None,
    show: Callable[[str, Sequence[Record], Path], None],
    *,
    prog: str,
    doc: str | None,
) -> int:
    """A command that shows kept runs: `show` gets a study, its runs and its folder.

    Exit status: 0 shown; 1 stopped, with a sentence that says why.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmark.{prog}", description=doc)
    parser.add_argument("studies", nargs="+", help="folders of results")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    store = RecordStore(options.out)
    try:
        for study in options.studies:
            records = store.all(study)
            if not records:
                raise NothingKept(study, options.out)
            show(study, records, options.out / study)
    except (NothingKept, RecordUnreadable, RunsDiffer, RunsMixed) as problem:
        print(f"no {prog}: {problem}", file=sys.stderr)
        return 1
    return 0


def _print(study: str, records: Sequence[Record], _folder: Path) -> None:
    print(f"### {study}\n\n{tables(records)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 printed; 1 stopped, with a sentence that says why."""
    return show_studies(arguments, _print, prog="table", doc=__doc__)


if __name__ == "__main__":
    sys.exit(main())
