"""Train a small VLM over a frozen encoder and write it as a LLaVA folder.

    python -m recipes.small_vlm --lab ../shared/lab
    python -m recipes.small_vlm --lab ../shared/lab --signs --encoder local-dir:../shared/lab/base

The first makes the bundled one, which also knows drawn digits; the second one that also knows
traffic signs, in the cache. Tower tokens (1 to 2 GB) are computed once and kept in the cache,
outside the repository. `--stage measure` trains nothing: it asks the finished model about unseen
photos.
"""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from tokenizers import Tokenizer

from encoder.clip import Encoder, Precision, load_encoder
from encoder.vlm.load import load_vlm
from recipes.small_vlm.evaluation import evaluate
from recipes.small_vlm.export import export_vlm
from recipes.small_vlm.measurement import Measurement, measure_vlm
from recipes.small_vlm.model import Size, SmallVlm
from recipes.small_vlm.questions import Questions
from recipes.small_vlm.tokens import TokenFile, compute_tokens, load_tokens
from recipes.small_vlm.training import Plan, Source, train
from recipes.small_vlm.uses import BUNDLED, LAB, Use, thing_names
from recipes.small_vlm.vocabulary import train_tokenizer

SHIPPED = Path(__file__).resolve().parents[2] / "encoder" / "bundled" / "vlm"
CACHE = Path("~/.cache/emend/small-vlm")
_REPORTED = 200
"""held-out pictures of each kind that are asked about while training"""


def main(arguments: Sequence[str] | None = None) -> Measurement:
    """Run the recipe from the command line; returns what it prints last."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    use = LAB if options.signs else BUNDLED
    encoder = load_encoder(options.encoder)
    if options.stage != "measure":
        make_vlm(use, encoder, options)
    vlm = load_vlm(str(options.out), encoder)
    questions, things = use.questions(options.lab), thing_names(options.lab)
    archive = options.lab / "pretrain.zip"
    measured = measure_vlm(
        vlm, encoder, questions, archive, per_class=options.per_class, among=things
    )
    print(measured)
    return measured


def make_vlm(use: Use, encoder: Encoder, options: argparse.Namespace) -> None:
    """Compute the tokens, train, and write the folder."""
    questions = use.questions(options.lab)
    files = token_files(use, encoder, options)
    tokenizer = train_tokenizer(questions, seed=options.seed)
    torch.manual_seed(options.seed)
    model = SmallVlm(tokenizer, files[0].tokens.shape[2], Size())
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    among = (thing_names(options.lab), use.other_names(options.lab))

    def report(step: int, minutes: float, loss: float) -> None:
        print(f"step {step}, {minutes:.1f} min: loss {loss:.4f}", flush=True)
        for file, names in zip(files, among, strict=True):
            print(f"    {check(model, tokenizer, questions, file, use, names)}", flush=True)

    sources = [Source(file, count) for file, count in zip(files, use.a_step, strict=True)]
    plan = Plan(steps=options.steps, minutes=options.minutes, class_token=use.class_token)
    train(model, tokenizer, questions, sources, plan=plan, seed=options.seed, report=report)
    digests = [
        load_encoder(options.encoder, precision=precision).base_digest
        for precision in get_args(Precision)
    ]
    export_vlm(
        model, tokenizer, encoder, class_token=use.class_token, out=options.out, digests=digests
    )


def token_files(use: Use, encoder: Encoder, options: argparse.Namespace) -> list[TokenFile]:
    """Tokens of the everyday photos and of the others, from the cache or computed now."""
    folder = options.cache / encoder.base_digest[:12]
    files = []
    for name, pictures in (("photos", use.photos), ("others", use.others)):
        path = folder / f"{name}-{'signs' if use.signs else 'digits'}-{options.seed}.npy"
        compute_tokens(encoder, partial(pictures, options.lab, options.seed), path)
        files.append(load_tokens(path))
    return files


def check(
    model: SmallVlm,
    tokenizer: Tokenizer,
    questions: Questions,
    file: TokenFile,
    use: Use,
    among: Sequence[str],
) -> object:
    """Ask about some of a file's held-out pictures."""
    numbers = np.flatnonzero(file.held_out)
    numbers = numbers[:: math.ceil(len(numbers) / _REPORTED)]
    tokens = file.rows(numbers, class_token=use.class_token)
    labels = [file.labels[number] for number in numbers]
    return evaluate(model, tokenizer, questions, tokens, labels, among=among)


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read `arguments`, or the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.small_vlm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lab", type=Path, required=True, help="folder with the lab's files")
    parser.add_argument("--encoder", default="bundled", help="whose tower (%(default)s)")
    parser.add_argument("--signs", action="store_true", help="traffic signs instead of digits")
    parser.add_argument("--out", type=Path, help="folder of the finished model")
    parser.add_argument(
        "--cache", type=Path, default=CACHE.expanduser(), help="for tokens (%(default)s)"
    )
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--minutes", type=float, default=math.inf, help="limit for the training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-class", type=int, default=20, help="unseen photos to measure on")
    parser.add_argument("--stage", choices=("all", "measure"), default="all")
    options = parser.parse_args(arguments)
    if options.out is None:
        options.out = options.cache / "signs" if options.signs else SHIPPED
    return options


if __name__ == "__main__":
    main()
