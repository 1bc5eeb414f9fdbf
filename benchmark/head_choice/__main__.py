"""``python -m benchmark.head_choice --lab <lab folder>``: runs what is missing, prints a table."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmark.datasets.missing import DataSetError
from benchmark.experiment import ExperimentInvalid
from benchmark.head_choice.material import MATERIALS
from benchmark.head_choice.table import TrialsDiffer, markdown
from benchmark.head_choice.trial import CHOICES, PARTS, Result, ResultStore, Trial, facts, run
from benchmark.loop import RESULTS, say
from benchmark.record import DirtyTree, add_out, check_out
from editing.errors import EditError
from encoder.clip import Encoder, load_encoder
from encoder.errors import EncoderError


def study(options: argparse.Namespace, base: Encoder, at: str) -> list[Result]:
    """Every trial of one material, seed after seed of heads alone, which tell the choices apart
    best, then with fc1. Raises DataSetError, EditError."""
    material = MATERIALS[options.material](base, options.lab)
    store = ResultStore(options.out)
    results = []
    for part in PARTS:
        for seed in range(options.seeds):
            for choice in CHOICES:
                trial = Trial(
                    options.material, part, choice, seed, options.shots, options.steps, options.rate
                )
                result = store.find(trial, facts(trial, base, material))
                if result is None:
                    result = run(trial, base, material, at)
                    store.save(result)
                    say(f"{trial.key}: {result.target:.1f} %, {result.flips:.1f} % flips")
                results.append(result)
    return results


def main() -> int:
    """Command line: see ``python -m benchmark.head_choice --help``."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmark.head_choice")
    parser.add_argument("--lab", type=Path, default=Path("../shared/lab"), help="the lab folder")
    parser.add_argument("--encoder", default="bundled", help="the tower that is asked")
    parser.add_argument("--material", choices=sorted(MATERIALS), default="digits")
    parser.add_argument("--seeds", type=int, default=3, help="draws and fits, from seed 0")
    parser.add_argument("--shots", type=int, default=10, help="corrections a class")
    parser.add_argument("--steps", type=int, default=40, help="of the optimizer, eight photos each")
    parser.add_argument("--rate", type=float, default=1e-2, help="peak step size of heads")
    parser.add_argument("--threads", type=int, default=1)
    add_out(parser, RESULTS / "head_choice")
    parser.add_argument("--table", action="store_true", help="of what is kept; run nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        if options.table:
            results = ResultStore(options.out).all(options.material)
            print(markdown(results) if results else f"no results of {options.material}")
            return 0 if results else 1
        at = check_out(options.out, allow_dirty=options.allow_dirty)
        results = study(options, load_encoder(options.encoder), at)
    except (
        DataSetError,
        DirtyTree,
        EditError,
        EncoderError,
        ExperimentInvalid,
        TrialsDiffer,
    ) as problem:
        print(f"head_choice stopped: {problem}")
        return 1
    print(markdown(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
