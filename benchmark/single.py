"""One correction alone: is it fixed at once, do its classmates gain, does anything else move?

``python -m benchmark.single --lab <folder>`` takes photos of train tracks that the base encoder
gets wrong, a class each, and makes one job of each of them, always from the base, as the service
would: its defaults, its guard photos, its gate. Classmates are photos of other tracks of the class;
the test split stays closed. A killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmark.bed import Bed as Asked
from benchmark.bed import Sheet, pixels_of
from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.datasets.missing import DataSetError
from benchmark.datasets.photos import Photo
from benchmark.jobs import Bed, Signs, edit_once, load_bed, options_of
from benchmark.lab import Lab
from benchmark.loop import say
from benchmark.methods import parse
from benchmark.metrics import flips, percent
from benchmark.record import DirtyTree, check_out, code_digest, libraries, write_json
from editing.errors import EditError
from editing.methods import MethodConfig
from encoder.errors import EncoderError

CLASSMATES = 40  # photos at most


class NothingWrong(Exception):
    """There is no photo to correct."""


def wrong_ones(asked: Asked, count: int, *, seed: int) -> list[Photo]:
    """`count` photos of train tracks that the base gets wrong, of as many classes, by seed."""
    rng = random.Random(seed)
    photos = rng.sample(asked.data.train, len(asked.data.train))
    chosen: dict[int, Photo] = {}
    for photo in photos:
        if len(chosen) == count:
            break
        if photo.label not in chosen and not _right(asked, photo):
            chosen[photo.label] = photo
    return list(chosen.values())


def correct(
    bed: Bed, asked: Asked, photo: Photo, config: MethodConfig, *, seed: int
) -> dict[str, Any]:
    """One job about one photo; percentages before and after. `unseen_flips` are of the photos that
    trained no guard, where some of a set did. Raises EditError."""
    signs = Signs(pixels_of(asked.base, [photo]), torch.tensor([photo.label]))
    none = signs.at([])
    candidate, report = edit_once(bed, config, asked.base, signs, none, seed)
    mates = _classmates(asked, photo, seed)
    sheets = [mates, *asked.controls.values()]
    before = {**asked.before, **asked.ask(asked.base, [mates])}
    after = asked.ask(candidate, sheets)
    unseen = {each["name"]: each["unseen"]["flips"] for each in report["controls"]}
    return {
        "photo": photo.name,
        "label": asked.data.labels[photo.label],
        "verdict": report["verdict"],
        "strength": report["strength"],
        "steps": report["steps"],
        "fixed": report["corrections"]["after"] == 100,
        "classmates": len(mates.names),
        "classmates_before": percent(before[mates.name] == mates.targets),
        "classmates_after": percent(after[mates.name] == mates.targets),
        "controls": {
            each.name: {
                "change": percent(after[each.name] == each.targets)
                - percent(before[each.name] == each.targets),
                "flips": flips(before[each.name], after[each.name]),
            }
            | ({"unseen_flips": unseen[each.name]} if each.name in unseen else {})
            for each in sheets[1:]
        },
    }


def summary(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares and means over all corrections. Raises NothingWrong without any."""
    if not told:
        raise NothingWrong("nothing was corrected: no photo that the base gets wrong")
    gains = [each["classmates_after"] - each["classmates_before"] for each in told]
    return {
        "corrections": len(told),
        "fixed": sum(each["fixed"] for each in told),
        "promoted": sum(each["verdict"] == "promoted" for each in told),
        "classmates_worse": sum(gain < 0 for gain in gains),
        "classmates_gain": round(statistics.mean(gains), 2),
        "controls": {
            name: {
                what: round(statistics.mean(each["controls"][name][what] for each in told), 2)
                for what in ("change", "flips", "unseen_flips")
                if what in told[0]["controls"][name]
            }
            | {"most_flips": round(max(each["controls"][name]["flips"] for each in told), 2)}
            for name in told[0]["controls"]
        },
    }


def _classmates(asked: Asked, photo: Photo, seed: int) -> Sheet:
    others = [
        each for each in asked.data.train if each.label == photo.label and each.group != photo.group
    ]
    chosen = random.Random(seed).sample(others, min(CLASSMATES, len(others)))
    targets = torch.tensor([each.label for each in chosen], dtype=torch.long)
    names = tuple(each.name for each in chosen)
    pixels = pixels_of(asked.base, chosen)
    return replace(asked.target, name="classmates", names=names, pixels=pixels, targets=targets)


def _right(asked: Asked, photo: Photo) -> bool:
    features = asked.base.embed_images(pixels_of(asked.base, [photo])).cpu()
    return int((features @ asked.target.texts.T).argmax()) == photo.label


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 stopped, with a sentence that says why."""
    options = _parser().parse_args(arguments)
    path = options.out / f"single-{options.name}-seed{options.seed}.json"
    try:
        commit = check_out(path, allow_dirty=options.allow_dirty)
        config = parse(options.method, json.loads(options.config))
        lab = Lab(options.lab)
        bed = load_bed(lab, shots=1, seed=options.seed)
        data = replace(load_lab(lab.root), test=())
        # In fp32, as the service asks: rounding alone turns one answer of a hundred.
        asked = Asked(bed.base, data, load_lab_controls(lab.root), precision="fp32")
        photos = wrong_ones(asked, options.count, seed=options.seed)
        facts = {
            "method": options.method,
            "config": config.model_dump(mode="json"),
            "seed": options.seed,
            "base": bed.base.digest,
            "photos": [photo.name for photo in photos],
        }
        # A file of other code is begun anew: its commit is to be that of all its corrections.
        head = {"commit": commit, "code": code_digest(), "libraries": libraries(), "facts": facts}
        told = _kept(path, head)
        for photo in photos[len(told) :]:
            told.append(correct(bed, asked, photo, config, seed=options.seed))
            say(_line(told[-1]))
            write_json(path, {**head, "summary": summary(told), "corrections": told})
        say(json.dumps(summary(told)))
    except (
        DataSetError,
        DirtyTree,
        EditError,
        EncoderError,
        NothingWrong,
        json.JSONDecodeError,
    ) as problem:
        print(f"stopped: {problem}", file=sys.stderr)
        return 1
    return 0


def _kept(path: Path, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run of the same facts has done already, by the same code and libraries."""
    if not path.exists():
        return []
    told = json.loads(path.read_text("utf-8"))
    same = all(told.get(name) == head[name] for name in ("code", "facts"))
    return list(told["corrections"]) if same else []


def _line(told: Mapping[str, Any]) -> str:
    moved = ", ".join(f"{name} {each['flips']:.1f} %" for name, each in told["controls"].items())
    return (
        f"{told['label']}: {told['verdict']} at {told['strength']:g} after {told['steps']} steps, "
        f"{'fixed' if told['fixed'] else 'not fixed'}, classmates {told['classmates_before']:.0f} "
        f"-> {told['classmates_after']:.0f}, flips {moved}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = options_of("single", __doc__)
    parser.add_argument("--count", type=int, default=20, help="corrections, a class each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
