"""XImageNet-12 (arXiv 2310.08182): twelve ImageNet classes under changes of background and colour.

Its archives hold a folder a scenario (blurred background or object, one colour channel, segmented,
random or generated background, ...), in it a folder a class called by WordNet id. Spelling and
nesting of the scenarios differ between its releases: a scenario is whatever folder has class
folders, called by its own name. Names and prompts are ImageNet's, over the twelve.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

from benchmark.datasets.imagenet import LABELS, ROWS, SYNSET, TEMPLATES
from benchmark.datasets.missing import SetMalformed, SetMissing
from benchmark.datasets.photos import DataSet, Photo, refuse_empty
from benchmark.datasets.trees import open_tree

NAME = "ximagenet12"
CLASSES = 12


def load_ximagenet12(root: Path) -> dict[str, DataSet]:
    """Scenario to control set, which is called "ximagenet12/<scenario>".

    `root` is a folder or zip archive above the scenarios. Raises SetMissing, SetMalformed (not
    twelve classes, two scenarios of one name) and ClassEmpty.
    """
    tree = open_tree(NAME, root)
    found: dict[PurePosixPath, list[tuple[str, str]]] = defaultdict(list)
    for name in tree.names:
        path = PurePosixPath(name)
        if SYNSET.fullmatch(path.parent.name):
            found[path.parent.parent].append((path.parent.name, name))
    if not found:
        raise SetMissing(NAME, "a scenario's folder of class folders (n########)", [root])
    synsets = sorted({synset for files in found.values() for synset, _ in files})
    unknown = [synset for synset in synsets if synset not in ROWS]
    if unknown:
        raise SetMalformed(root, unknown[0], "it is no class of ILSVRC2012")
    if len(synsets) != CLASSES:
        listed = ", ".join(synsets)
        raise SetMalformed(root, "the class folders", f"they are {len(synsets)}, not 12: {listed}")
    labels = tuple(LABELS[ROWS[synset]] for synset in synsets)
    sets: dict[str, DataSet] = {}
    for folder, files in found.items():
        scenario = folder.name or root.stem
        if scenario in sets:
            raise SetMalformed(root, str(folder), f"a second scenario called {scenario!r}")
        photos: list[Photo] = []
        for synset, name in files:
            photo = tree.photo(name, synsets.index(synset), name)
            photos.append(photo)
        called = f"{NAME}/{scenario}"
        refuse_empty(called, "test", labels, photos, root / folder)
        sets[scenario] = DataSet(called, labels, TEMPLATES, (), (), tuple(photos))
    return sets
