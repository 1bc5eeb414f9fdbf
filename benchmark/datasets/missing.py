"""What a loader says when the files on disk are not what their owners publish.

DataSetError
├── SetMissing       a file or folder is in none of the places where it belongs
├── SetMalformed     it is there, and holds what it should not
├── ClassEmpty       a class of the set has no photo
├── NothingToAsk     no photo is left to teach or to ask
└── PhotoUnreadable  a photo is no photo (raised when it is opened)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class DataSetError(Exception):
    """A data set cannot be loaded as it lies on disk."""


class SetMissing(DataSetError):
    """A file of a published set is in none of the places where it belongs."""

    def __init__(self, name: str, what: str, looked: Sequence[Path]) -> None:
        self.name, self.what, self.looked = name, what, tuple(looked)
        places = "; ".join(str(path) for path in looked)
        super().__init__(f"{name}: {what} is missing, looked for {places}")


class SetMalformed(DataSetError):
    """A file or folder is not what its set publishes."""

    def __init__(self, path: Path, where: str, reason: str) -> None:
        self.path, self.where, self.reason = path, where, reason
        super().__init__(f"{path}, {where}: {reason}")


class ClassEmpty(DataSetError):
    """Classes of a set have no photo in a split."""

    def __init__(self, name: str, split: str, classes: Sequence[str], where: Path) -> None:
        self.name, self.split, self.classes, self.where = name, split, tuple(classes), where
        listed = ", ".join(classes)
        super().__init__(f"{name}: no {split} photo of {listed} in {where}")


class NothingToAsk(DataSetError):
    """Of a set, or of the classes of an update, no photo is there to be taught or asked."""

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        super().__init__(f"{name}: {what}")


class PhotoUnreadable(DataSetError):
    """A photo is there, but it is no photo."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{name} cannot be read: {reason}")


def find(name: str, what: str, places: Sequence[Path]) -> Path:
    """The first of `places` that exists. Raises SetMissing, which names them all."""
    for path in places:
        if path.exists():
            return path
    raise SetMissing(name, what, places)
