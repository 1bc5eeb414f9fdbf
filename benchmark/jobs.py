"""The service's jobs in one process, on training tracks only: planned, fitted, judged.

The test split stays closed. The training photos are cut by track: corrections are drawn from one
part, validation photos (eight a class) from the tracks of the other. Planning, fitting and the gate
are the product's own; only the service around them is left out. Half of the control photographs
train the guard term, as in the service; ``wide`` neither trains nor judges.

Legend: N photos, V sign classes, S image side, E embedding width.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.bed import parts_of
from benchmark.datasets.lab import load_lab
from benchmark.datasets.photos import kept_groups
from benchmark.lab import Files, Lab, LabelNames, Photos, named
from benchmark.loop import BUDGETS, RESULTS
from benchmark.methods import method_names
from benchmark.record import add_out
from editing.control import ControlSet
from editing.fewshot import EditTask, choose_guard
from editing.gate import GateConfig, judge
from editing.judged_fit import fit_and_judge
from editing.methods import MethodConfig
from editing.replay import plan_replay
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
        base_features=embedded(base, pixels),
    )


def embedded(encoder: Encoder, pixels: Tensor) -> Tensor:
    """fp32 [N, E]"""
    return torch.cat([encoder.embed_images(chunk).cpu() for chunk in torch.split(pixels, CHUNK)])


def percent_right(encoder: Encoder, signs: Signs, texts: Tensor) -> float:
    """Percent of signs that get their own label."""
    answers = (embedded(encoder, signs.pixels) @ texts.T).argmax(dim=1)
    return round(100 * (answers == signs.targets).float().mean().item(), 1)


def edit_once(
    bed: Bed, config: MethodConfig, live: Encoder, new: Signs, earlier: Signs, seed: int
) -> tuple[Encoder, dict[str, Any]]:
    """Plan, fit and judge one job; the candidate at the gate's strength, and what it reports."""
    replay = plan_replay(earlier.targets.tolist(), config, new=len(new.targets), seed=seed)
    start, replayed = live if replay.stacked else bed.base, earlier.at(replay.positions)
    made = fit_and_judge(
        start,
        bed.task(new, replayed),
        config,
        lambda candidate: judge(
            base=bed.base,
            parent=live,
            start=start,
            make_candidate=candidate,
            task=bed.task(new, earlier),
            controls=bed.controls,
            config=GateConfig(),
        ),
        seed=seed,
    )
    facts = {
        "fitted_on": len(new.targets) + len(replayed.targets),
        "stacked": replay.stacked,
        "steps": made.fitted.history.steps,
        "undone_rounds": made.fitted.history.undone,
    }
    told = facts | made.to_json() | made.report.to_json()
    served = start.merged_deltas(made.fitted.at(made.strength), label=f"job of seed {seed}")
    return served, told


def options_of(prog: str, doc: str | None) -> argparse.ArgumentParser:
    """What every command that makes such jobs asks; each adds its own."""
    parser = argparse.ArgumentParser(description=doc, prog=f"python -m benchmark.{prog}")
    parser.add_argument("--lab", type=Path, default=Path("../shared/lab"), help="the lab folder")
    parser.add_argument("--name", default="defaults", help="of these settings, for the result")
    parser.add_argument("--method", choices=method_names(), default="lorsu", help="of editing")
    parser.add_argument("--config", default="{}", help="settings over its defaults, as JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the cut, the draws and the fits")
    add_out(parser, RESULTS)
    return parser
