"""The study as a command: ``python -m benchmark.vqa --help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmark.datasets.missing import DataSetError
from benchmark.experiment import ExperimentInvalid
from benchmark.lab import Lab
from benchmark.loop import RESULTS, say
from benchmark.record import add_out, commit_of
from benchmark.vqa.lab_sets import Amounts
from benchmark.vqa.lab_study import Asking, Editing, Reader, VlmNeeded
from benchmark.vqa.rows import ROWS, ZERO_SHOT, Row, get_row
from benchmark.vqa.runs import RunStore
from benchmark.vqa.table import NoBaseline, RunsDiffer, markdown
from editing.errors import EditError
from encoder.clip import load_encoder
from encoder.errors import EncoderError


def main() -> int:
    """Edit, ask, and keep one JSON a row and seed; what is there already is not done again."""
    parser = _parser()
    options = parser.parse_args()
    out = options.out if options.validate is None else options.out / "validation"
    store = RunStore(out)
    try:
        if not options.table:
            _study(options, store, commit_of(parser, options.out, allow_dirty=options.allow_dirty))
        if options.table or (options.vlm is not None and options.validate is None):
            print(markdown(store.all()))
    except (
        DataSetError,
        EditError,
        EncoderError,
        ExperimentInvalid,
        NoBaseline,
        RunsDiffer,
        VlmNeeded,
    ) as problem:
        print(f"the study stopped: {problem}", file=sys.stderr)
        return 1
    return 0


def _study(options: argparse.Namespace, store: RunStore, commit: str) -> None:
    lab = Lab(options.lab)
    base = load_encoder(str(lab.encoder))
    reader = None if options.vlm is None else Reader.load(options.vlm, base)
    editing = Editing(
        lab,
        base,
        options.work,
        shots=options.shots,
        reader=reader,
        validation=options.validate is not None,
    )
    amounts = Amounts(signs=options.signs, things=options.things)
    asking = None if reader is None else Asking(lab, reader, editing, amounts)
    for seed in options.seeds:
        for row in _rows(options):
            if row is ZERO_SHOT and seed != options.seeds[0]:
                continue  # nothing of it depends on the seed
            say(f"{row.name}, seed {seed}")
            if asking is None:
                if row.part == "encoder":
                    editing.edit(row, seed)
                continue
            run = asking.run(row, seed, store, commit)
            say(
                f"signs {run.target.accuracy:.1f}, things {run.control.accuracy:.1f}, "
                f"{run.cost.cpu_seconds:.0f} s of one core"
            )


def _rows(options: argparse.Namespace) -> list[Row]:
    rows = [get_row(name) for name in options.rows]
    if options.validate is None:
        return rows
    edited = [row for row in rows if row.method is not None]
    return [ZERO_SHOT, *(row.at_pace(factor) for row in edited for factor in options.validate)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark.vqa", description=__doc__)
    work = Path(tempfile.gettempdir()) / "emend-vqa"
    names = [row.name for row in ROWS]
    parser.add_argument("--lab", type=Path, default=Path("../shared/lab"), help="the lab folder")
    parser.add_argument(
        "--vlm", type=Path, help="folder of the lab's VLM; without it only the edits are made"
    )
    parser.add_argument("--work", type=Path, default=work, help="where edited encoders are kept")
    add_out(parser, RESULTS / "vqa")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, help="of the table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--shots", type=int, default=20, help="training photos a class")
    parser.add_argument("--signs", type=int, default=20, help="photos of each sign asked about")
    parser.add_argument("--things", type=int, default=10, help="photos of each thing asked about")
    parser.add_argument(
        "--validate",
        nargs="+",
        type=float,
        metavar="FACTOR",
        help="step sizes times these, on train tracks only; results in a folder of their own",
    )
    parser.add_argument("--table", action="store_true", help="only print what is kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
