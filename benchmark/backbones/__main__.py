"""`python -m benchmark.backbones`: what editing costs, by backbone and method.

Each measurement runs in a process of its own, one after the other, and is kept as a JSON file; one
that is kept already is not done again unless asked for. Models are open_clip names, at random
weights and without any download, or folders. `--table` prints all that is kept as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmark.backbones.apart import ProcessEnded, measure_apart
from benchmark.backbones.measurement import Plan
from benchmark.backbones.records import Records
from benchmark.backbones.room import MemoryShort, check_room
from benchmark.backbones.table import markdown
from benchmark.loop import RESULTS, say
from benchmark.memory import free_bytes
from benchmark.record import add_out, commit_of
from editing.errors import EditError
from editing.methods import METHODS
from encoder.errors import EncoderError

MODELS = ("ViT-L-14", "ViT-L-14-336", "EVA01-g-14")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 when a measurement was refused or did not end."""
    parser = _parser()
    options = parser.parse_args(arguments)
    records = Records(options.out)
    if options.table:
        print(markdown(records.all()), end="")
        return 0
    tree = commit_of(parser, options.out, allow_dirty=options.allow_dirty)
    plans = [
        Plan(model, method, options.precision, options.batch, options.repeats, options.seed)
        for model in options.model
        for method in options.methods
    ]
    failed = 0
    for plan in plans:
        if not options.again and records.find(plan) is not None:
            say(f"{plan.model} by {plan.method}: kept from before")
            continue
        try:
            check_room(plan, free=free_bytes())
            found = measure_apart(plan)
        except (EncoderError, EditError, MemoryShort, ProcessEnded) as problem:
            print(f"not measured: {problem}")
            failed = 1
            continue
        say(f"{plan.model} by {plan.method}: {records.save(plan, {'commit': tree, **found})}")
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark.backbones", description=__doc__)
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--batch", type=int, default=8, help="images a step (the paper's few-shot)")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--repeats", type=int, default=3, help="steps that are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="also what is kept")
    add_out(parser, RESULTS / "backbones")
    parser.add_argument("--table", action="store_true", help="print what is kept as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
