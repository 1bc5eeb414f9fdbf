"""GTSRB, the German Traffic Sign Recognition Benchmark, from its official archives.

Training: `GTSRB/Final_Training/Images/<class>/GT-<class>.csv` beside `<track>_<frame>.ppm` (the
later archive of the same photos says `GTSRB/Training/<class>/`). Test: `GTSRB/Final_Test/Images/`;
the CSV in there has no classes, the one that has comes in an archive of its own. All CSVs are
separated by semicolons. Photos are used whole, with the border around the sign.

Surprise: test photos are shuffled and do not name their tracks, so each is a group of its own.
Class order and prompts are the paper's (arXiv 2407.16526); the wording of the names is ours. A file
`class_names.txt` beside the archives, a name a line in the official order, puts others in their
place: those of the paper stand in its authors' repository, in `src/clip_ft/datasets/gtsrb.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmark.datasets.missing import SetMalformed, find
from benchmark.datasets.photos import DataSet, Photo, filed, refuse_empty
from benchmark.datasets.tables import read_table

NAME = "gtsrb"
LABELS = (
    "speed limit 20 km/h",
    "speed limit 30 km/h",
    "speed limit 50 km/h",
    "speed limit 60 km/h",
    "speed limit 70 km/h",
    "speed limit 80 km/h",
    "end of speed limit 80 km/h",
    "speed limit 100 km/h",
    "speed limit 120 km/h",
    "no overtaking",
    "no overtaking by trucks",
    "crossroads with priority",
    "priority road",
    "give way",
    "stop",
    "no vehicles",
    "no trucks",
    "no entry",
    "danger",
    "bend to the left",
    "bend to the right",
    "double bend",
    "bumpy road",
    "slippery road",
    "road narrows on the right",
    "road works",
    "traffic lights",
    "pedestrians",
    "children",
    "cyclists",
    "ice or snow",
    "wild animals",
    "end of all limits",
    "turn right",
    "turn left",
    "straight ahead",
    "straight ahead or right",
    "straight ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by trucks",
)
TEMPLATES = (
    'a zoomed in photo of a "{}" traffic sign.',
    'a centered photo of a "{}" traffic sign.',
    'a close up photo of a "{}" traffic sign.',
)
UPDATES = (
    (25, 2, 11, 1, 40, 27, 5, 9, 17),
    (32, 29, 20, 39, 21, 15, 23, 10, 3),
    (18, 38, 42, 14, 22, 35, 34, 19, 33),
    (12, 26, 41, 0, 37, 6, 13, 24),
    (30, 28, 31, 7, 16, 4, 36, 8),
)
NAMES = "class_names.txt"
TEST_CSV = "GT-final_test.csv"
_TRAINING = ("Final_Training/Images", "Training", "Training/Images")
_ABOVE_TRAINING = (
    "",
    "GTSRB",
    "GTSRB_Final_Training_Images/GTSRB",
    "GTSRB-Training_fixed/GTSRB",
)
_ABOVE_TEST = ("", "GTSRB", "GTSRB_Final_Test_Images/GTSRB")
_LABELLED = "it comes in GTSRB_Final_Test_GT.zip; the one among the test photos has no ClassId"
_FIELDS = {"Filename": "this is not an official table", "ClassId": _LABELLED}


def load_gtsrb(root: Path) -> DataSet:
    """ "gtsrb": training photos grouped by track, all test photos, five updates.

    `root` holds the archives unpacked, with or without the folder `GTSRB` and the folders that are
    named like the archives. Raises SetMissing, SetMalformed, ClassEmpty.
    """
    labels = _names(root / NAMES)
    train = tuple(_train(root))
    test = tuple(_test(root))
    for split, photos in (("train", train), ("test", test)):
        refuse_empty(NAME, split, labels, photos, root)
    return DataSet(NAME, labels, TEMPLATES, UPDATES, train, test)


def _names(file: Path) -> tuple[str, ...]:
    """Those of the file where there is one, else ours."""
    if not file.exists():
        return LABELS
    try:
        names = tuple(line.strip() for line in file.read_text("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise SetMalformed(file, "its text", f"it is not UTF-8 ({error})") from error
    for number, name in enumerate(names, start=1):
        if not name or name in names[: number - 1]:
            raise SetMalformed(file, f"line {number}", f"{name!r} is no name of its own")
    if len(names) != len(LABELS):
        raise SetMalformed(file, "its lines", f"{len(names)} names for {len(LABELS)} classes")
    return names


def _train(root: Path) -> Iterator[Photo]:
    places = [root / above / inner for inner in _TRAINING for above in _ABOVE_TRAINING]
    folder = find(NAME, "the folder of the training classes", places)
    for row in range(len(LABELS)):
        key = f"{row:05}"
        table = find(NAME, f"class {key}", [folder / key / f"GT-{key}.csv"])
        for where, file, label in _rows(table, folder / key):
            if label != row:
                raise SetMalformed(table, where, f"ClassId is {label} in the folder of {row}")
            track, _, frame = file.rpartition("_")
            if not track or not frame:
                raise SetMalformed(table, where, f"{file!r} is not <track>_<frame>.ppm")
            yield filed(f"{key}/{file}", folder / key / file, row, f"{key}/{track}")


def _test(root: Path) -> Iterator[Photo]:
    folders = [root / above / "Final_Test/Images" for above in _ABOVE_TEST]
    folder = find(NAME, "the folder of the test photos", folders)
    places = [
        root / TEST_CSV,
        root / "GTSRB" / TEST_CSV,
        root / "GTSRB_Final_Test_GT" / TEST_CSV,
        folder.parent / TEST_CSV,
        folder / TEST_CSV,
    ]
    table = find(NAME, f"the labelled {TEST_CSV} ({_LABELLED})", places)
    for _, file, label in _rows(table, folder):
        yield filed(file, folder / file, label, file)


def _rows(table: Path, folder: Path) -> Iterator[tuple[str, str, int]]:
    """("line N", file name, class) of each row; rows and photos in `folder` must match."""
    photos = {path.name for path in folder.iterdir() if path.suffix == ".ppm"}
    for where, row in read_table(table, _FIELDS, delimiter=";"):
        file = row["Filename"]
        if file not in photos:
            raise SetMalformed(table, where, f"{file!r} is not in {folder}, or named twice")
        photos.remove(file)
        yield where, file, _label(row["ClassId"], table, where)
    if photos:
        raise SetMalformed(table, "the rows", f"none of them is about {min(photos)}")


def _label(given: str, table: Path, where: str) -> int:
    if not given.isdecimal() or int(given) >= len(LABELS):
        raise SetMalformed(table, where, f"ClassId is {given!r}, not 0 to {len(LABELS) - 1}")
    return int(given)
