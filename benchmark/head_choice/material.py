"""What is taught, what is asked, and what must not change.

Taught: scikit-learn's handwritten digits, or the lab's signs from its train tracks; its test split
stays closed. What is asked shares no picture and no track with what corrections are drawn from.
Control: the hundred things of the lab's `pretrain.zip`, from `val/`, which the bundled encoder was
not trained on. Guard: other photos of them.

Legend: N photos, V labels, S image side.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from benchmark.datasets.lab import load_lab
from benchmark.datasets.photos import cut_by_group
from benchmark.lab import Lab
from benchmark.vqa.lab_sets import thing_names, to_pixels
from editing.control import ControlSet
from editing.fewshot import EditTask
from encoder.classifier import build_classifier
from encoder.clip import Encoder

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_TEMPLATES = ("a photo of the number {}.",)
THING_TEMPLATES = ("a photo of a {}.", "a photo of the {}.", "a good photo of a {}.")
ASKED = {"digits": 20, "signs": 5}  # validation photos a class
SIGNS_KEPT = 0.3  # of each sign's tracks, for validation
CONTROL_A_THING, GUARD_A_THING = 3, 3
CUT_SEED = 0  # what is asked is the same whatever the run's seed
INK = 16  # grey levels of a digit


@dataclass(frozen=True)
class Material:
    """What corrections are drawn from, pixels uint8 [N, 3, S, S] and targets long [N]; `asked` and
    `control` are never fitted on and hold the base's features, as does `guard`, whose photos may
    hold an edit back."""

    pixels: Tensor
    targets: Tensor
    asked: ControlSet
    control: ControlSet
    guard: ControlSet

    def corrections(self, shots: int, seed: int, *, guarded: bool = False) -> EditTask:
        """So many of each class, drawn by seed."""
        rows = _drawn(self.targets.tolist(), shots, seed)
        texts = self.asked.text_features
        guard = self.guard.pixels if guarded else self.guard.pixels[:0]
        return EditTask(
            pixels=self.pixels[rows],
            targets=self.targets[rows],
            allowed=torch.ones(len(rows), len(texts), dtype=torch.bool),
            text_features=texts,
            new=torch.ones(len(rows), dtype=torch.bool),
            guard_pixels=guard,
            guard_features=self.guard.base_features if guarded else None,
        )


def digits(base: Encoder, lab: Path) -> Material:
    """Raises LabMissing."""
    source = load_digits()
    pixels = torch.stack([base.preprocessing.to_pixels(_on_paper(each)) for each in source.images])
    targets = torch.tensor(source.target, dtype=torch.long)
    asked = _drawn(targets.tolist(), ASKED["digits"], CUT_SEED)
    taught = sorted(set(range(len(targets))) - set(asked))
    texts = build_classifier(base, DIGITS, DIGIT_TEMPLATES).features
    sheet = _sheet(base, "digits", pixels[asked], targets[asked], texts)
    return Material(pixels[taught], targets[taught], sheet, *_things(base, lab))


def signs(base: Encoder, lab: Path) -> Material:
    """Raises LabMissing, PhotoUnreadable."""
    data = load_lab(lab)
    fitting, kept = cut_by_group(data.train, SIGNS_KEPT, CUT_SEED)
    drawn = _drawn([photo.label for photo in kept], ASKED["signs"], CUT_SEED)
    (pixels, targets), (asked, answers) = (
        (
            torch.stack([base.preprocessing.to_pixels(photo.open()) for photo in photos]),
            torch.tensor([photo.label for photo in photos]),
        )
        for photos in (fitting, [kept[row] for row in drawn])
    )
    texts = build_classifier(base, data.labels, data.templates).features
    sheet = _sheet(base, "signs", asked, answers, texts)
    return Material(pixels, targets, sheet, *_things(base, lab))


MATERIALS: dict[str, Callable[[Encoder, Path], Material]] = {"digits": digits, "signs": signs}


def _things(base: Encoder, lab: Path) -> tuple[ControlSet, ControlSet]:
    """For control and for the guard term; no photo stands in both."""
    photos = Lab(lab).archive("pretrain.zip", "val")
    names = thing_names(lab / "pretrain.zip")
    texts = build_classifier(base, list(names.values()), THING_TEMPLATES).features
    rows = {folder: row for row, folder in enumerate(names)}
    control: list[tuple[int, bytes]] = []
    guard: list[tuple[int, bytes]] = []
    for folder, files in sorted(photos.items()):
        count = min(CONTROL_A_THING, (len(files) + 1) // 2)
        drawn = random.Random(CUT_SEED).sample(range(len(files)), count)
        left = [place for place in range(len(files)) if place not in drawn][:GUARD_A_THING]
        control += [(rows[folder], files[place][1]) for place in drawn]
        guard += [(rows[folder], files[place][1]) for place in left]

    def sheet(name: str, drawn: Sequence[tuple[int, bytes]]) -> ControlSet:
        pixels = to_pixels(base, [data for _, data in drawn])
        return _sheet(base, name, pixels, torch.tensor([row for row, _ in drawn]), texts)

    return sheet("things", control), sheet("guard", guard)


def _sheet(base: Encoder, name: str, pixels: Tensor, targets: Tensor, texts: Tensor) -> ControlSet:
    features = base.embed_images(pixels).cpu()
    return ControlSet(name, pixels, targets, texts, budget=100, base_features=features)


def _drawn(targets: Sequence[int], each: int, seed: int) -> list[int]:
    """Positions of so many of every class, or of all where there are fewer, ascending."""
    members = defaultdict(list)
    for row, target in enumerate(targets):
        members[target].append(row)
    rng = random.Random(seed)
    return sorted(
        row for _, rows in sorted(members.items()) for row in rng.sample(rows, min(each, len(rows)))
    )


def _on_paper(ink: np.ndarray) -> Image.Image:
    """Dark ink [8, 8] of 0 to 16 on white paper."""
    return Image.fromarray((255 - ink * (255 / INK)).astype(np.uint8)).convert("RGB")
