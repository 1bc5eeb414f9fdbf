"""Generated pictures of TSI's captions: a control set, a folder a caption.

`python -m benchmark.datasets.generate_dalle` writes such a folder. A caption's folder is called
like it, with "_" or "-" for spaces and letters of any case.
"""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.missing import SetMalformed
from benchmark.datasets.photos import DataSet, refuse_empty
from benchmark.datasets.trees import open_tree
from benchmark.datasets.tsi import CAPTIONS, TEMPLATES

NAME = "dalle"
PROMPT = TEMPLATES[0]


def folder_of(caption: str) -> str:
    """The folder of a caption's pictures."""
    return caption.replace(" ", "_")


def load_dalle(root: Path) -> DataSet:
    """ "dalle", from a folder or zip archive of captions' folders.

    Raises SetMissing, SetMalformed (a folder that is no caption, a file in no folder), ClassEmpty.
    """
    tree = open_tree(NAME, root)
    rows = {caption.lower(): row for row, caption in enumerate(CAPTIONS)}
    photos = []
    for name in tree.names:
        folder, _, _ = name.rpartition("/")
        caption = folder.rpartition("/")[2].replace("_", " ").replace("-", " ").lower()
        if caption not in rows:
            reason = f"its folder is none of the captions ({', '.join(CAPTIONS)})"
            raise SetMalformed(root, name, reason)
        photos.append(tree.photo(name, rows[caption], name))
    refuse_empty(NAME, "test", CAPTIONS, photos, root)
    return DataSet(NAME, CAPTIONS, TEMPLATES, (), (), tuple(photos))
