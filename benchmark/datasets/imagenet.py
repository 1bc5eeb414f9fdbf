"""ImageNet's validation photos (ILSVRC2012) with open_clip's own class names and prompts.

Three layouts: a folder a class (`val/n01440764/`), as most people sort them; all photos in one
folder (`ILSVRC2012_val_00000001.JPEG`) with the official development kit, whose class numbers are
not in the usual order and are resolved by its `meta.mat`; the same with Kaggle's
`LOC_val_solution.csv`. Which of the 1,000 classes a WordNet id is comes from timm's list, so that a
few classes are as good as all.

Surprise: two pairs of classes have the same name ("missile", "sunglasses"); each pair is one label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import open_clip
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from timm.data.imagenet_info import ImageNetInfo

from benchmark.datasets.missing import ClassEmpty, SetMalformed, SetMissing, find
from benchmark.datasets.photos import DataSet, Photo, filed
from benchmark.datasets.tables import read_table
from benchmark.datasets.trees import PHOTOS, open_tree

NAME = "imagenet"
LABELS: tuple[str, ...] = tuple(dict.fromkeys(open_clip.IMAGENET_CLASSNAMES))
TEMPLATES: tuple[str, ...] = tuple(each("{}") for each in open_clip.OPENAI_IMAGENET_TEMPLATES)
ROWS: dict[str, int] = {
    synset: LABELS.index(name)
    for synset, name in zip(
        ImageNetInfo().label_names(), open_clip.IMAGENET_CLASSNAMES, strict=True
    )
}
"""WordNet id to row of `LABELS`."""
SYNSET = re.compile(r"n\d{8}")
SOLUTION = "LOC_val_solution.csv"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_FOLDERS = ("val", "ILSVRC2012_img_val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val")
_KITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data")
_FILE = re.compile(r"(?P<key>ILSVRC2012_val_(?P<number>\d{8}))\.JPEG")
_COLUMNS = dict.fromkeys(("ImageId", "PredictionString"), "this is not Kaggle's table")


def load_imagenet(root: Path) -> DataSet:
    """ "imagenet": a control set. `root` is the folder of the photos or one above it.

    Raises SetMissing, SetMalformed, ClassEmpty (a class's folder without a photo).
    """
    places = [*(root / folder for folder in _FOLDERS), root]
    folder = next((each for each in places if each.is_dir() and _holds_photos(each)), None)
    if folder is None:
        raise SetMissing(NAME, "a folder of class folders or of ILSVRC2012_val_*.JPEG", places)
    sorted_by_class = any(SYNSET.fullmatch(path.name) for path in folder.iterdir())
    photos = _from_classes(folder) if sorted_by_class else _from_one_folder(root, folder)
    return DataSet(NAME, LABELS, TEMPLATES, (), (), tuple(photos))


def _holds_photos(folder: Path) -> bool:
    return any(
        SYNSET.fullmatch(path.name) or _FILE.fullmatch(path.name) for path in folder.iterdir()
    )


def _from_classes(folder: Path) -> Iterator[Photo]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.name not in ROWS:
            raise SetMalformed(folder, path.name, "it is no class of ILSVRC2012")
        tree = open_tree(NAME, path)
        if not tree.names:
            raise ClassEmpty(NAME, "test", [path.name], folder)
        for file in tree.names:
            name = f"{path.name}/{file}"
            photo = tree.photo(file, ROWS[path.name], name)
            yield Photo(name, photo.label, name, photo.open)


def _from_one_folder(root: Path, folder: Path) -> Iterator[Photo]:
    above = list(dict.fromkeys((root, folder, *list(folder.parents)[:3])))
    tables = [each / SOLUTION for each in above]
    truths = [each / kit / TRUTH for each in above for kit in _KITS]
    path = find(NAME, "what is on the photos", [*tables, *truths])
    synsets = _of_table(path) if path.name == SOLUTION else _of_kit(path)
    for photo in sorted(each for each in folder.iterdir() if each.suffix.lower() in PHOTOS):
        named = _FILE.fullmatch(photo.name)
        if named is None:
            raise SetMalformed(folder, photo.name, "it is not named ILSVRC2012_val_NNNNNNNN.JPEG")
        if named["key"] not in synsets:
            raise SetMalformed(path, "the rows", f"none of them is about {photo.name}")
        yield filed(photo.name, photo, ROWS[synsets[named["key"]]], photo.name)


def _of_table(path: Path) -> dict[str, str]:
    """Photo to WordNet id, by Kaggle's table."""
    synsets = {}
    for where, row in read_table(path, _COLUMNS, delimiter=","):
        synset = row["PredictionString"].partition(" ")[0]
        if synset not in ROWS:
            raise SetMalformed(path, where, f"{synset!r} is no class of ILSVRC2012")
        synsets[row["ImageId"]] = synset
    return synsets


def _of_kit(path: Path) -> dict[str, str]:
    """Photo to WordNet id, by the development kit: line N is the class number of photo N."""
    meta = find(NAME, "the development kit's meta.mat", [path.parent / "meta.mat"])
    classes = _kit_classes(meta)
    synsets = {}
    for number, line in enumerate(path.read_text("utf-8").split(), start=1):
        if line not in classes:
            raise SetMalformed(path, f"line {number}", f"{line!r} is no class number of {meta}")
        synsets[f"ILSVRC2012_val_{number:08}"] = classes[line]
    return synsets


def _kit_classes(meta: Path) -> dict[str, str]:
    """Class number to WordNet id, of the classes that photos are labelled with."""
    try:
        table = loadmat(meta, squeeze_me=True)["synsets"]
        pairs = {
            str(number): str(synset)
            for number, synset in zip(table["ILSVRC2012_ID"], table["WNID"], strict=True)
        }
    except (MatReadError, ValueError, KeyError, IndexError, TypeError) as error:
        reason = f"it is not the kit's table of synsets ({error})"
        raise SetMalformed(meta, "the file", reason) from error
    return {number: synset for number, synset in pairs.items() if synset in ROWS}
