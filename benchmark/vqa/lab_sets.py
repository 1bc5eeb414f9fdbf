"""The lab's photos for the study: signs to learn and to ask about, things that must not change.

Shots are drawn by seed from train tracks; questions from the test split by a seed of their own, so
that every run is asked the same. For choosing step sizes the train tracks are cut again
(`validation`), and things come from the photos that `pretrain.zip` keeps for training.

Legend: N photos, S image side.
"""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.jobs import cut_by_track
from benchmark.lab import Files, Lab, draw
from benchmark.vqa.questions import ChoiceQuestion, LabelledImage, choice_questions, subsample
from encoder.clip import Encoder
from encoder.images import decode_image

SIGN_QUESTION = "What sign is this?"
THING_QUESTION = "What is this?"
QUESTION_SEED = 0  # of distractors and subsamples: the same for every run
HELD_OUT = 5  # things of each class, as in `recipes.small_vlm.pictures`
SIZE_LIMIT = 2**26  # bytes and pixels of a photo
_VALIDATION_CUT = 0  # seed


@dataclass(frozen=True)
class Update:
    """What one update learns: photos of a group of classes.

    pixels uint8 [N, 3, S, S] · targets long [N], rows of the label set
    """

    pixels: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Amounts:
    """How many photos a class are asked about."""

    signs: int = 20
    things: int = 10


def sign_updates(lab: Lab, base: Encoder, *, shots: int, seed: int) -> list[Update]:
    """Five updates of disjoint classes, `shots` photos a class of train tracks."""
    files = lab.signs("train")
    drawn = {key: draw(each, min(shots, len(each)), seed) for key, each in files.items()}
    return _updates(lab, base, drawn)


def validation_updates(lab: Lab, base: Encoder, *, shots: int, seed: int) -> list[Update]:
    """The same from those train tracks that are not kept for validation."""
    drawn = {}
    for key, files in lab.signs("train").items():
        fitting, _ = cut_by_track(files, seed=_VALIDATION_CUT)
        drawn[key] = random.Random(seed).sample(fitting, min(shots, len(fitting)))
    return _updates(lab, base, drawn)


def sign_questions(lab: Lab, amounts: Amounts) -> list[ChoiceQuestion]:
    """Photos of the test split, each asked about with five of the 43 signs."""
    return _sign_questions(lab, lab.signs("test"), amounts)


def validation_sign_questions(lab: Lab, amounts: Amounts) -> list[ChoiceQuestion]:
    """The same about train tracks that `validation_updates` leaves out."""
    kept: dict[str, Files] = {}
    for key, files in lab.signs("train").items():
        _, photos = cut_by_track(files, seed=_VALIDATION_CUT)
        kept[key] = [(f"{number:03}", photo) for number, photo in enumerate(photos)]
    return _sign_questions(lab, kept, amounts)


def thing_questions(lab: Lab, amounts: Amounts) -> list[ChoiceQuestion]:
    """Photos of everyday things, each asked about with five of their hundred names."""
    return _thing_questions(lab, lab.archive("pretrain.zip", "val"), amounts)


def validation_thing_questions(lab: Lab, amounts: Amounts) -> list[ChoiceQuestion]:
    """The same about training photos that the lab's VLM was not trained on: the last of each."""
    files = lab.archive("pretrain.zip", "train")
    return _thing_questions(lab, {key: each[-HELD_OUT:] for key, each in files.items()}, amounts)


def _thing_questions(lab: Lab, files: dict[str, Files], amounts: Amounts) -> list[ChoiceQuestion]:
    names = thing_names(lab.root / "pretrain.zip")
    examples = _examples(files, names)
    chosen = subsample(examples, each=amounts.things, seed=QUESTION_SEED)
    labels = list(names.values())
    return choice_questions(chosen, labels, question=THING_QUESTION, seed=QUESTION_SEED)


def thing_names(archive: Path) -> dict[str, str]:
    """Folder to name of the hundred things."""
    with zipfile.ZipFile(archive) as opened:
        names = json.loads(opened.read("classes.json"))
    return {str(folder): str(name) for folder, name in names.items()}


def to_pixels(base: Encoder, files: Sequence[bytes]) -> Tensor:
    """uint8 [N, 3, S, S]"""
    images = [decode_image(file, max_bytes=SIZE_LIMIT, max_pixels=SIZE_LIMIT) for file in files]
    return torch.stack([base.preprocessing.to_pixels(image) for image in images])


def _updates(lab: Lab, base: Encoder, drawn: dict[str, list[bytes]]) -> list[Update]:
    answers = lab.label_names("gtsrb")
    rows = {key: answers.labels.index(name) for key, name in answers.names.items()}
    updates = []
    for group in lab.class_groups:
        files = [file for key in group for file in drawn[key]]
        targets = [rows[key] for key in group for _ in drawn[key]]
        updates.append(Update(to_pixels(base, files), torch.tensor(targets)))
    return updates


def _sign_questions(lab: Lab, files: dict[str, Files], amounts: Amounts) -> list[ChoiceQuestion]:
    names = lab.label_names("gtsrb").names
    chosen = subsample(_examples(files, names), each=amounts.signs, seed=QUESTION_SEED)
    labels = [names[key] for key in sorted(names)]
    return choice_questions(chosen, labels, question=SIGN_QUESTION, seed=QUESTION_SEED)


def _examples(folders: dict[str, Files], names: dict[str, str]) -> list[LabelledImage]:
    return [
        LabelledImage(f"{key}/{name}", data, names[key])
        for key in sorted(folders)
        for name, data in folders[key]
    ]
