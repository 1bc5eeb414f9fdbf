"""Data sets by name, as experiments call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.datasets.dalle import load_dalle
from benchmark.datasets.gtsrb import load_gtsrb
from benchmark.datasets.imagefolder import load_imagefolder
from benchmark.datasets.imagenet import load_imagenet
from benchmark.datasets.lab import load_lab, load_lab_controls
from benchmark.datasets.missing import DataSetError
from benchmark.datasets.photos import DataSet
from benchmark.datasets.tsi import load_tsi
from benchmark.datasets.ximagenet12 import load_ximagenet12

SETS: dict[str, Callable[[Path], DataSet]] = {
    "dalle": load_dalle,
    "gtsrb": load_gtsrb,
    "imagefolder": load_imagefolder,
    "imagenet": load_imagenet,
    "lab": load_lab,
    "tsi": load_tsi,
}
FAMILIES: dict[str, Callable[[Path], dict[str, DataSet]]] = {
    "lab": load_lab_controls,
    "ximagenet12": load_ximagenet12,
}
"""Sets that come together; one is called "<family>/<name>"."""


class UnknownDataSet(DataSetError):
    """There is no data set of this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"there is no data set {name!r}, only {', '.join(known)}")


def load(name: str, root: Path) -> DataSet:
    """A data set of `SETS`, or "<family>/<name>", such as "lab/ten", from its folder or archive.

    Raises UnknownDataSet and what the loader raises, all of them DataSetError.
    """
    if name in SETS:
        return SETS[name](root)
    family, _, member = name.partition("/")
    if family not in FAMILIES:
        raise UnknownDataSet(name, [*SETS, *(f"{each}/..." for each in FAMILIES)])
    members = FAMILIES[family](root)
    if member not in members:
        raise UnknownDataSet(name, [f"{family}/{each}" for each in members])
    return members[member]
