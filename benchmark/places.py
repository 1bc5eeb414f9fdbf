"""Where data sets lie on this machine, by name, and what an experiment needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.datasets.catalogue import load
from benchmark.datasets.photos import DataSet, cut_by_group
from benchmark.experiment import Experiment
from encoder.clip import Encoder, load_encoder

LAB = Path("../shared/lab")
VALIDATION_SHARE = 0.3  # of each class's groups
VALIDATION_SEED = 0


class PlaceUnknown(Exception):
    """An experiment needs a data set, and nobody said where it lies."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"say where {name!r} lies: --place {name}=<folder>")


class PlaceMalformed(Exception):
    """`--place` was given something else than name=folder."""

    def __init__(self, told: str) -> None:
        super().__init__(f"--place takes name=folder, not {told!r}")


@dataclass(frozen=True)
class Places:
    """Folders by data set's name. With `validation` the test split stays closed: training photos
    are cut by group instead, and what is kept for validation is asked. Control sets are asked whole
    either way: step sizes that were chosen by them spare them a little more than other photos."""

    folders: dict[str, Path]
    validation: bool = False

    @classmethod
    def of(cls, told: Sequence[str], *, validation: bool = False) -> Places:
        """From "name=folder" texts; the lab has a default. Raises PlaceMalformed."""
        folders = {"lab": LAB}
        for each in told:
            name, found, folder = each.partition("=")
            if not (name and found and folder):
                raise PlaceMalformed(each)
            folders[name] = Path(folder)
        return cls(folders, validation)

    def encoder(self, experiment: Experiment) -> Encoder:
        """The base. Raises EncoderError, PlaceUnknown."""
        if experiment.encoder:
            return load_encoder(experiment.encoder, experiment.pretrained)
        return load_encoder(str(self.folder("lab") / "base"))

    def data(self, name: str) -> DataSet:
        """What is learnt. Raises PlaceUnknown, and what its loader raises."""
        found = load(name, self.folder(name))
        if not self.validation:
            return found
        fitting, kept = cut_by_group(found.train, VALIDATION_SHARE, VALIDATION_SEED)
        return replace(found, train=tuple(fitting), test=tuple(kept))

    def controls(self, names: Sequence[str]) -> dict[str, DataSet]:
        """Control sets by name. Raises PlaceUnknown, and what their loaders raise."""
        return {name: load(name, self.folder(name)) for name in names}

    def folder(self, name: str) -> Path:
        """Where a set or its family lies ("lab" of "lab/ten"). Raises PlaceUnknown."""
        family = name.partition("/")[0]
        if family not in self.folders:
            raise PlaceUnknown(family)
        return self.folders[family]
