"""The plots of a study as PNG: ``python -m benchmark.plot lab-continual``.

One of target against control, a point a method with its spread over seeds, and one of accuracy
over updates, a line a method.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.record import Record
from benchmark.table import Group, grouped, show_studies
from benchmark.vqa.scoring import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = "osD^vP*<>"
"""One fewer than matplotlib has colours, so that no pair comes twice in ninety methods."""
LEGEND_COLUMNS, LEGEND_ROW_INCHES = 2, 0.2


def draw(records: Sequence[Record], folder: Path) -> list[Path]:
    """Every plot of these runs, as files in `folder`. Raises RunsDiffer, RunsMixed."""
    made = []
    for group, runs in grouped(records):
        if not runs[0].controls:
            continue
        made += [_save(trade(runs, group), folder / f"{_stem(group)}-trade.png")]
        if any(len(run.updates) > 1 for run in runs):
            made += [_save(_course(runs, group), folder / f"{_stem(group)}-updates.png")]
    return made


def trade(runs: Sequence[Record], group: Group) -> Figure:
    """Target against the change of every control set."""
    figure, axes = _figure(len(runs[0].controls))
    for axis, control in zip(axes, runs[0].controls, strict=True):
        for mark, (title, same) in zip(cycle(MARKS), _by_title(runs), strict=False):
            target = Spread.of([run.target.after for run in same])
            losses = [run.controls[control].after - run.controls[control].before for run in same]
            change = Spread.of(losses)
            axis.errorbar(
                change.mean,
                target.mean,
                xerr=change.deviation,
                yerr=target.deviation,
                fmt=mark,
                label=title,
                capsize=2,
            )
        axis.axvline(0, color="0.7", linewidth=0.8)
        axis.set_xlabel(f"change on {control} (points)")
    axes[0].set_ylabel("target accuracy (%)")
    return _titled(figure, group)


def _course(runs: Sequence[Record], group: Group) -> Figure:
    """Accuracy on all classes after every update, and on each control set."""
    asked = [run.updates[0].controls for run in runs if len(run.updates) > 1]
    controls = [name for name in asked[0] if all(name in each for each in asked)]
    figure, axes = _figure(1 + len(controls))
    for mark, (title, same) in zip(cycle(MARKS), _by_title(runs), strict=False):
        if len(same[0].updates) < 2:
            continue
        count = range(1, 1 + min(len(run.updates) for run in same))
        for axis, name in zip(axes, ["", *controls], strict=True):
            line = [Spread.of([_after(run, number, name) for run in same]).mean for number in count]
            axis.plot(list(count), line, marker=mark, label=title)
    for axis, name in zip(axes, ["target", *controls], strict=True):
        axis.set_xlabel("updates")
        axis.set_ylabel(f"{name}, right (%)")
    return _titled(figure, group)


def _after(run: Record, number: int, control: str) -> float:
    row = run.updates[number - 1]
    return row.controls[control] if control else row.probe


def _by_title(runs: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    def order(run: Record) -> tuple[bool, str, str]:
        updates = run.facts["updates"]
        several = f", {updates} updates" if updates > 1 and len(streams) > 1 else ""
        return run.facts["method"] is not None, run.name, run.title + several

    streams = {run.facts["updates"] for run in runs}
    ordered = sorted(runs, key=order)
    return [(key[2], list(same)) for key, same in groupby(ordered, order)]


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * panels, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, number + 1) for number in range(panels)]


def _titled(figure: Figure, group: Group) -> Figure:
    """With the names of all methods beneath the panels, where they hide no point."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    rows = -(-len(labels) // LEGEND_COLUMNS)
    figure.set_figheight(figure.get_figheight() + rows * LEGEND_ROW_INCHES)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize="small"
    )
    figure.suptitle(_told(group))
    return figure


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def _stem(group: Group) -> str:
    data, shots = group
    return f"{data}-{shots or 'all'}"


def _told(group: Group) -> str:
    data, shots = group
    return f"{data}, {f'{shots} photos a class' if shots else 'all training photos'}"


def _draw(_study: str, records: Sequence[Record], folder: Path) -> None:
    for path in draw(records, folder):
        print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 drawn; 1 stopped, with a sentence that says why."""
    return show_studies(arguments, _draw, prog="plot", doc=__doc__)


if __name__ == "__main__":
    sys.exit(main())
