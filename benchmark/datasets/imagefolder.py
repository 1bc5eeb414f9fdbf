"""Any folder of class folders, or a zip archive of one; a class is called like its folder.

With the folders `train` and `test` (or `val`, `validation`, `valid`) above the classes it is a set
to learn, in one update; without them a control set. Beside `test`, the others of these four are
left alone: nothing is tuned on what is measured. One folder around everything is looked through.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmark.datasets.missing import SetMalformed, SetMissing
from benchmark.datasets.photos import DataSet, Photo, refuse_empty
from benchmark.datasets.trees import Tree, open_tree

TEMPLATES = ("a photo of a {}.",)
TRAIN = "train"
TESTS = ("test", "val", "validation", "valid")
"""The first of them that is there is measured on."""


def load_imagefolder(root: Path, *, templates: Sequence[str] = TEMPLATES) -> DataSet:
    """Called like the folder or archive; "_" in a class's folder becomes a space.

    Raises SetMissing, SetMalformed, ClassEmpty.
    """
    tree = open_tree(root.stem, root)
    split_names = _splits(tree)
    test_split = next((split for split in TESTS if split in split_names), "")
    if not split_names.get(test_split):
        looked = [root / split for split in TESTS] if TRAIN in split_names else [root]
        raise SetMissing(root.stem, "a folder of class folders to measure on", looked)
    chosen = {split: split_names.get(split, []) for split in (TRAIN, test_split)}
    rows = _rows(tree, [_class(tree, inner) for each in chosen.values() for _, inner in each])
    labels = tuple(dict.fromkeys(_label(folder) for folder in rows))
    train, test = (
        tuple(_photo(tree, name, inner, rows) for name, inner in names) for names in chosen.values()
    )
    refuse_empty(root.stem, test_split, labels, test, root)
    if train:
        refuse_empty(root.stem, TRAIN, labels, train, root)
    updates = (tuple(range(len(labels))),) if train else ()
    return DataSet(root.stem, labels, tuple(templates), updates, train, test)


def _splits(tree: Tree) -> dict[str, list[tuple[str, str]]]:
    """Split to (name in the tree, name within the split); "" where there are no splits."""
    depth = 0
    parts = [name.split("/") for name in tree.names]
    while parts and min(map(len, parts)) > depth + 2 and len({each[depth] for each in parts}) == 1:
        if parts[0][depth] in (TRAIN, *TESTS):
            break
        depth += 1
    tops = {each[depth] for each in parts}
    known = tops & {TRAIN, *TESTS}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    if not known:
        for name, each in zip(tree.names, parts, strict=True):
            found[""].append((name, "/".join(each[depth:])))
        return found
    if tops - known:
        reason = f"it stands beside {min(known)!r}, but is no split"
        raise SetMalformed(tree.root, min(tops - known), reason)
    for name, each in zip(tree.names, parts, strict=True):
        found[each[depth]].append((name, "/".join(each[depth + 1 :])))
    return found


def _class(tree: Tree, inner: str) -> str:
    folder, slash, _ = inner.partition("/")
    if not slash:
        raise SetMalformed(tree.root, inner, "it is in no class folder")
    return folder


def _rows(tree: Tree, folders: Sequence[str]) -> dict[str, int]:
    """Class folder to row."""
    rows: dict[str, int] = {}
    owner: dict[str, str] = {}
    for folder in sorted(set(folders)):
        if owner.setdefault(_label(folder), folder) != folder:
            reason = f"it has the name of {owner[_label(folder)]!r}, {_label(folder)!r}"
            raise SetMalformed(tree.root, folder, reason)
        rows[folder] = len(rows)
    return rows


def _label(folder: str) -> str:
    return folder.replace("_", " ")


def _photo(tree: Tree, name: str, inner: str, rows: dict[str, int]) -> Photo:
    photo = tree.photo(name, rows[inner.partition("/")[0]], inner)
    return Photo(inner, photo.label, inner, photo.open)
