"""The five jobs rehearsed in one process, on training tracks only: how settings are chosen.

The test split stays closed. The training photos are cut by track: corrections are drawn from one
part, validation photos (eight a class) from the tracks of the other. Planning, fitting and the gate
are the product's own; only the service around them is left out. Half of the control photographs
train the guard term, as in the service; ``wide`` neither trains nor judges.

Legend: N photos, V sign classes, S image side, E embedding width.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.bed import parts_of
from benchmark.datasets.lab import load_lab
from benchmark.datasets.photos import kept_groups
from benchmark.lab import Files, Lab, LabelNames, LabMissing, Photos, named
from benchmark.loop import BUDGETS, RESULTS, commit, say
from editing.control import ControlSet
from editing.errors import EditError
from editing.fewshot import EditTask, choose_guard, plan_replay
from editing.gate import GateConfig, judge
from editing.methods import METHODS, MethodConfig, fit, parse_config
from encoder.classifier import build_classifier
from encoder.clip import Encoder, load_encoder
from encoder.images import decode_image

VALIDATION_SHARE = 0.3  # of each class's tracks
VALIDATION_PHOTOS = 8  # a class
CHUNK = 100  # photos embedded at a time
SIZE_LIMIT = 2**26  # bytes and pixels of a photo


def cut_by_track(files: Files, *, seed: int) -> tuple[list[bytes], list[bytes]]:
    """A class's photos, ``<track>_<frame>``, for fitting and for validation; no track in both."""
    kept = kept_groups([{_track(name) for name, _ in files}], VALIDATION_SHARE, seed)
    fitting = [data for name, data in files if _track(name) not in kept]
    return fitting, [data for name, data in files if _track(name) in kept]


def _track(name: str) -> str:
    return name.rsplit("_", 1)[0]


@dataclass(frozen=True)
class Signs:
    """pixels uint8 [N, 3, S, S] · targets long [N], rows of the label set"""

    pixels: Tensor
    targets: Tensor

    def at(self, rows: Sequence[int]) -> Signs:
        return Signs(self.pixels[list(rows)], self.targets[list(rows)])

    def __add__(self, other: Signs) -> Signs:
        pixels = torch.cat([self.pixels, other.pixels])
        return Signs(pixels, torch.cat([self.targets, other.targets]))


@dataclass(frozen=True)
class Bed:
    """What the jobs of one run share. texts fp32 [V, E]; `wide` is only measured."""

    base: Encoder
    texts: Tensor
    batches: list[Signs]
    validation: Signs
    controls: list[ControlSet]
    wide: ControlSet

    def task(self, new: Signs, earlier: Signs) -> EditTask:
        """Every sign may be taken for any other; what the control sets mark as seen is guarded."""
        signs, [guard, *_] = new + earlier, self.controls
        assert guard.seen is not None
        assert guard.base_features is not None
        return EditTask(
            pixels=signs.pixels,
            targets=signs.targets,
            allowed=torch.ones(len(signs.targets), len(self.texts), dtype=torch.bool),
            text_features=self.texts,
            new=torch.arange(len(signs.targets)) < len(new.targets),
            guard_pixels=guard.pixels[guard.seen],
            guard_features=guard.base_features[guard.seen],
        )


def load_bed(lab: Lab, *, shots: int, seed: int, updates: int = 5) -> Bed:
    """Reads the photos, and embeds those whose features never change.

    The classes come in as many updates as are wanted, as in `benchmark.bed.parts_of`.
    """
    base = load_encoder(str(lab.encoder))
    answers = lab.label_names("gtsrb")
    cut = {key: cut_by_track(files, seed=seed) for key, files in lab.signs("train").items()}
    rng = random.Random(seed)

    def drawn(key: str, part: int, count: int) -> list[bytes]:
        return rng.sample(cut[key][part], min(count, len(cut[key][part])))

    def signs(chosen: Sequence[tuple[str, bytes]]) -> Signs:
        rows = [answers.labels.index(answers.names[key]) for key, _ in chosen]
        return Signs(_pixels(base, [file for _, file in chosen]), torch.tensor(rows))

    keys = {answers.labels.index(answers.names[key]): key for key in cut}
    parts = parts_of(load_lab(lab.root), updates)
    shown = {v.label: drawn(keys[v.label], 0, shots) for part in parts for v in part if not v.turn}
    batches = [
        signs(
            [(keys[visit.label], file) for visit in part for file in visit.of(shown[visit.label])]
        )
        for part in parts
    ]

    ten, thousand = lab.label_names("control"), lab.label_names("imagenet")
    pictures = named(lab.folders("control.zip"), ten.names)
    controls = [
        _control(base, "ten", pictures, ten),
        _control(base, "thousand", pictures, thousand),
    ]
    [guarded] = choose_guard([pictures.images], count=len(pictures.images), seed=seed)
    for control in controls:
        assert control.seen is not None
        control.seen[guarded] = True
    wide = named(lab.folders("wide-control.zip"), thousand.names)
    return Bed(
        base=base,
        texts=_texts(base, answers),
        batches=batches,
        validation=signs([(k, f) for k in sorted(cut) for f in drawn(k, 1, VALIDATION_PHOTOS)]),
        controls=controls,
        wide=_control(base, "wide", wide, thousand),
    )


def _pixels(base: Encoder, files: Sequence[bytes]) -> Tensor:
    """uint8 [N, 3, S, S]"""
    images = [decode_image(file, max_bytes=SIZE_LIMIT, max_pixels=SIZE_LIMIT) for file in files]
    return torch.stack([base.preprocessing.to_pixels(image) for image in images])


def _texts(base: Encoder, answers: LabelNames) -> Tensor:
    """fp32 [V, E]"""
    return build_classifier(base, answers.labels, answers.templates).features


def _control(base: Encoder, name: str, pictures: Photos, answers: LabelNames) -> ControlSet:
    rows = {label: row for row, label in enumerate(answers.labels)}
    pixels = _pixels(base, pictures.images)
    return ControlSet(
        name=name,
        pixels=pixels,
        targets=torch.tensor([rows[label] for label in pictures.labels]),
        text_features=_texts(base, answers),
        budget=BUDGETS.get(name, 100.0),
        seen=torch.zeros(len(pixels), dtype=torch.bool),
        base_features=_embed(base, pixels),
    )


def _embed(encoder: Encoder, pixels: Tensor) -> Tensor:
    """fp32 [N, E]"""
    return torch.cat([encoder.embed_images(chunk).cpu() for chunk in torch.split(pixels, CHUNK)])


def percent_right(encoder: Encoder, signs: Signs, texts: Tensor) -> float:
    """Percent of signs that get their own label."""
    answers = (_embed(encoder, signs.pixels) @ texts.T).argmax(dim=1)
    return round(100 * (answers == signs.targets).float().mean().item(), 1)


def rehearse(bed: Bed, config: MethodConfig, *, jobs: int, seed: int) -> list[dict[str, Any]]:
    """Run the first `jobs` batches; a refused edit is left out, as in the service."""
    live, earlier = bed.base, bed.batches[0].at([])
    told: list[dict[str, Any]] = []
    for number, new in enumerate(bed.batches[:jobs], start=1):
        began = time.monotonic()
        candidate, facts = edit_once(bed, config, live, new, earlier, seed)
        seconds = round(time.monotonic() - began)
        if facts["verdict"] == "promoted":
            live, earlier = candidate, earlier + new
        measured = _measured(bed, live, taught=earlier)
        told.append({"job": number, "seconds": seconds, **facts, **measured})
        say(_line(told[-1]))
    return told


def edit_once(
    bed: Bed, config: MethodConfig, live: Encoder, new: Signs, earlier: Signs, seed: int
) -> tuple[Encoder, dict[str, Any]]:
    """Plan, fit and judge one job; the candidate at the gate's strength, and what it reports."""
    replay = plan_replay(earlier.targets.tolist(), config, new=len(new.targets), seed=seed)
    start, replayed = live if replay.stacked else bed.base, earlier.at(replay.positions)
    edit = fit(start, bed.task(new, replayed), config, seed=seed)

    def candidate(strength: float) -> Encoder:
        deltas = {name: delta.scaled(strength) for name, delta in edit.deltas.items()}
        return start.merged_deltas(deltas, label=f"strength {strength}")

    report, strength = judge(
        base=bed.base,
        parent=live,
        start=start,
        make_candidate=candidate,
        task=bed.task(new, earlier),
        controls=bed.controls,
        config=GateConfig(),
    )
    facts = {
        "fitted_on": len(new.targets) + len(replayed.targets),
        "stacked": replay.stacked,
        "steps": edit.history.steps,
    }
    return candidate(strength), facts | report.to_json()


def _measured(bed: Bed, encoder: Encoder, *, taught: Signs) -> dict[str, float]:
    """Percent: right on validation photos of the classes taught so far, and of all; flipped on
    `wide`."""
    known = torch.isin(bed.validation.targets, taught.targets).nonzero()[:, 0].tolist()
    assert bed.wide.base_features is not None
    before = bed.wide.answers(bed.wide.base_features)
    after = bed.wide.answers(_embed(encoder, bed.wide.pixels))
    return {
        "wide_flips": round(100 * (before != after).float().mean().item(), 1),
        "validation_taught": percent_right(encoder, bed.validation.at(known), bed.texts),
        "validation_all": percent_right(encoder, bed.validation, bed.texts),
    }


def _line(job: dict[str, Any]) -> str:
    changes = ", ".join(
        f"{each['name']} {each['after'] - each['before']:+.1f} ({each['flips']:.1f} % flips)"
        for each in job["controls"]
    )
    return (
        f"job {job['job']} {job['verdict']} at {job['strength']:g} after {job['seconds']} s: "
        f"corrections {job['corrections']['after']:.1f}, "
        f"validation {job['validation_taught']} (all {job['validation_all']}), {changes}"
    )


def main() -> int:
    """Command line: see ``python -m benchmark.rehearsal --help``."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmark.rehearsal")
    parser.add_argument("--lab", type=Path, default=Path("../shared/lab"), help="the lab folder")
    parser.add_argument("--name", default="defaults", help="of these settings, for the result")
    parser.add_argument("--method", choices=sorted(METHODS), default="lorsu", help="of editing")
    parser.add_argument("--config", default="{}", help="settings over its defaults, as JSON")
    parser.add_argument("--updates", type=int, default=5, help="jobs in which the classes come")
    parser.add_argument("--jobs", type=int, help="of these, how many; all if not said")
    parser.add_argument("--shots", type=int, default=20, help="training photos a class")
    parser.add_argument("--seed", type=int, default=0, help="of the cut, the draws and the fits")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    try:
        settings = json.loads(options.config)
        config = parse_config(options.method, settings)
        lab = Lab(options.lab)
        bed = load_bed(lab, shots=options.shots, seed=options.seed, updates=options.updates)
        jobs = options.jobs or options.updates
        result = {
            "name": options.name,
            "method": options.method,
            "config": settings,
            "seed": options.seed,
            "commit": commit(),
            "zero_shot": percent_right(bed.base, bed.validation, bed.texts),
            "jobs": rehearse(bed, config, jobs=jobs, seed=options.seed),
        }
    except (LabMissing, EditError, json.JSONDecodeError) as problem:
        print(f"rehearsal stopped: {problem}")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"rehearsal-{options.name}-seed{options.seed}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    say(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
