"""The lab as data sets: signs to learn, and three views of photographs that must stay as they are.

The base has seen the archive's `pretrain/`: it belongs to no data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmark.datasets.photos import DataSet, Photo, decoded
from benchmark.lab import Files, Lab, LabelNames


def load_lab(root: Path) -> DataSet:
    """ "lab": the signs, grouped by track; five updates. Raises LabMissing."""
    lab = Lab(root)
    answers = lab.label_names("gtsrb")
    rows = _rows(answers)
    return DataSet(
        name="lab",
        labels=tuple(answers.labels),
        templates=tuple(answers.templates),
        updates=tuple(tuple(rows[key] for key in group) for group in lab.class_groups),
        train=tuple(_photos(lab.signs("train"), rows, by_track=True)),
        test=tuple(_photos(lab.signs("test"), rows, by_track=True)),
    )


def load_lab_controls(root: Path) -> dict[str, DataSet]:
    """ "ten" and "thousand", the same photos over ten and over ImageNet's names; "wide", a photo of
    each ImageNet class. Raises LabMissing.
    """
    lab = Lab(root)
    ten, thousand = lab.label_names("control"), lab.label_names("imagenet")
    photos, wide = lab.folders("control.zip"), lab.folders("wide-control.zip")
    by_name = {name: row for row, name in enumerate(thousand.labels)}
    ten_of_thousand = {key: by_name[name] for key, name in ten.names.items()}
    return {
        "ten": _control("ten", ten, photos, _rows(ten)),
        "thousand": _control("thousand", thousand, photos, ten_of_thousand),
        "wide": _control("wide", thousand, wide, _rows(thousand)),
    }


def _rows(answers: LabelNames) -> dict[str, int]:
    """Class key to row; of a name that stands twice, both keys have the same."""
    rows = {name: row for row, name in enumerate(answers.labels)}
    return {key: rows[name] for key, name in answers.names.items()}


def _control(
    name: str, answers: LabelNames, folders: dict[str, Files], rows: Mapping[str, int]
) -> DataSet:
    test = tuple(_photos(folders, rows, by_track=False))
    return DataSet(name, tuple(answers.labels), tuple(answers.templates), (), (), test)


def _photos(
    folders: dict[str, Files], rows: Mapping[str, int], *, by_track: bool
) -> Iterator[Photo]:
    for key in sorted(folders):
        for file, data in folders[key]:
            name = f"{key}/{file}"
            group = name.rsplit("_", 1)[0] if by_track else name
            yield Photo(name, rows[key], group, partial(decoded, name, data))
