"""The lab's photos as file bytes: traffic signs split by track, ImageNet photographs for control.

Nothing is unpacked: the archives are read in place. The lab's own README describes the folders and
where they come from.
"""

from __future__ import annotations

import json
import random
import zipfile
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmark.datasets.missing import DataSetError, SetMalformed

Files = list[tuple[str, bytes]]
"""File names and contents of one folder."""


class LabMissing(DataSetError):
    """A file of the lab is not where it should be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is missing: name the lab folder with --lab (see the README)")


@dataclass(frozen=True)
class Photos:
    """Image files and their labels, in one order."""

    images: list[bytes]
    labels: list[str]


@dataclass(frozen=True)
class LabelNames:
    """A label set: class key to name, and the prompt templates."""

    names: dict[str, str]
    templates: list[str]

    @property
    def labels(self) -> list[str]:
        """The names in the order of their keys; ImageNet's list has two names twice, here once."""
        return list(dict.fromkeys(self.names[key] for key in sorted(self.names)))


class Lab:
    """The lab folder. Raises :class:`LabMissing` for a file that is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.encoder = self._file("base")

    def _file(self, name: str) -> Path:
        path = self.root / name
        if not path.exists():
            raise LabMissing(path)
        return path

    @property
    def encoder_bytes(self) -> int:
        """Size of the base encoder's weights on disk."""
        return (self.encoder / "open_clip_model.safetensors").stat().st_size

    def label_names(self, name: str) -> LabelNames:
        """``gtsrb``, ``control`` or ``imagenet``."""
        content = json.loads(self._file(f"classes-{name}.json").read_text())
        return LabelNames(dict(content["names"]), list(content["templates"]))

    @property
    def class_groups(self) -> list[list[str]]:
        """The 43 sign classes cut into five disjoint groups, in the paper's order."""
        groups: list[list[str]] = json.loads(self._file("classes-gtsrb.json").read_text())[
            "class_groups"
        ]
        return groups

    def signs(self, split: str) -> dict[str, Files]:
        """Class id to ``(file name, bytes)`` of one split, ``train`` or ``test``."""
        return self._folders("gtsrb.zip", split)

    def folders(self, archive: str) -> dict[str, Files]:
        """Folder to ``(file name, bytes)`` of ``control.zip`` or ``wide-control.zip``."""
        return self._folders(archive, None)

    def archive(self, name: str, split: str) -> dict[str, Files]:
        """The same of one split of an archive that has splits, ``pretrain.zip``."""
        return self._folders(name, split)

    def _folders(self, archive: str, split: str | None) -> dict[str, Files]:
        found: dict[str, Files] = defaultdict(list)
        path = self._file(archive)
        try:
            with zipfile.ZipFile(path) as files:
                for name in sorted(files.namelist()):
                    parts = Path(name).parts
                    if name.endswith("/") or len(parts) < 2 or (split and split not in parts[:-2]):
                        continue
                    found[parts[-2]].append((parts[-1], files.read(name)))
        except (zipfile.BadZipFile, zlib.error) as damage:
            raise SetMalformed(path, "the archive", str(damage)) from damage
        return dict(found)


def draw(pictures: Files, count: int, seed: int) -> list[bytes]:
    """``count`` pictures of a class, drawn without replacement, whatever their tracks."""
    return [data for _, data in random.Random(seed).sample(pictures, count)]


def named(folders: dict[str, Files], names: dict[str, str]) -> Photos:
    """All pictures of ``folders``, labelled with their folder's name."""
    pairs = [(names[key], image) for key in sorted(folders) for _, image in folders[key]]
    return Photos([image for _, image in pairs], [label for label, _ in pairs])
