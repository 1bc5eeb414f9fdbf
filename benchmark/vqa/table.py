"""The study's table, in the paper's shape, from the kept runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.vqa.rows import ROWS, ZERO_SHOT, Row
from benchmark.vqa.runs import Run
from benchmark.vqa.scoring import Spread

_HEAD = (
    "| method | seeds | signs % | change | things % | change | things answered otherwise % "
    "| classifier on signs %, first seed | numbers trained | CPU minutes |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


class RunsDiffer(Exception):
    """Two runs were asked or taught differently and cannot stand in one table."""

    def __init__(self, one: Run, other: Run, what: str) -> None:
        super().__init__(f"{one.row}, seed {one.seed}, and {other.row}, seed {other.seed}, {what}")


class NoBaseline(Exception):
    """There is no run of the unedited encoder to compare with."""


def markdown(runs: Sequence[Run]) -> str:
    """One line a row, in the order of `ROWS`; mean and sample deviation over seeds.

    Raises NoBaseline, RunsDiffer.
    """
    grouped: Mapping[str, list[Run]] = {
        row.name: [run for run in runs if run.row == row.name] for row in ROWS
    }
    if not grouped[ZERO_SHOT.name]:
        raise NoBaseline("no run of the unedited encoder")
    baseline = grouped[ZERO_SHOT.name][0]
    for run in runs:
        if _asked(run) != _asked(baseline):
            raise RunsDiffer(run, baseline, "were asked different questions")
        first = next(each for each in runs if each.row == run.row)
        if _taught(run) != _taught(first):
            raise RunsDiffer(run, first, "were taught with other settings")
    lines = [_line(row, grouped[row.name], baseline) for row in ROWS if grouped[row.name]]
    return _HEAD + "".join(lines)


def flips(run: Run, baseline: Run) -> float:
    """Percent of control questions that are answered otherwise than by the unedited encoder."""
    pairs = zip(run.control.chosen, baseline.control.chosen, strict=True)
    return 100 * sum(one != other for one, other in pairs) / run.control.questions


def _line(row: Row, runs: Sequence[Run], baseline: Run) -> str:
    target = [run.target.accuracy for run in runs]
    control = [run.control.accuracy for run in runs]
    cells = [row.title, str(len(runs)), _told(target)]
    cells += [_change(target, baseline.target.accuracy), _told(control)]
    cells += [_change(control, baseline.control.accuracy)]
    cells += [_told([flips(run, baseline) for run in runs])]
    asked = [run.classifier for run in runs if run.classifier is not None]
    cells += [_told(asked) if asked else ""]
    if row is ZERO_SHOT:
        cells[3] = cells[5] = cells[6] = ""
    cells += [f"{max(run.cost.parameters for run in runs):,}"]
    cells += [f"{Spread.of([run.cost.cpu_seconds / 60 for run in runs]).mean:.1f}"]
    return f"| {' | '.join(cells)} |\n"


def _told(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return f"{spread.mean:.1f}" + (f" ± {spread.deviation:.1f}" if spread.count > 1 else "")


def _change(values: Sequence[float], before: float) -> str:
    return f"{Spread.of(values).mean - before:+.1f}".replace("-", "−")


def _taught(run: Run) -> dict[str, object]:
    return {name: value for name, value in run.facts.items() if name != "seed"}


def _asked(run: Run) -> tuple[str, str]:
    return run.target.digest, run.control.digest
