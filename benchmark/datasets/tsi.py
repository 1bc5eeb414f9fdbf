"""TSI: one frame of each trimmed video of Toyota Smarthome, what is going on as a caption.

Source: arXiv 2407.16526. Videos are `mp4/<activity>_p<subject>_r<..>_v<..>_c<..>.mp4`; of the
frames at two a second the middle one is taken (of an even number the later of the two). Eleven
subjects are for training, the other seven for test; four of the 31 activities are left out.

Decoding takes far longer than reading a picture: `python -m benchmark.datasets.keep_frames` writes
the frames once into a folder `frames` beside `mp4`, and what is there is read instead.

The captions are the paper's, as its authors' code names the classes of their DALL·E pictures. Which
activity has which is not published; that 27 have 22 leaves no choice of which share one: a still
picture does not tell drinking from pouring out of a bottle or a can, the two steps of making
coffee, or entering, leaving and walking. So a caption can be taught by several updates;
`Photo.update` tells which one a photo belongs to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from PIL import Image

from benchmark.datasets.missing import PhotoUnreadable, SetMalformed, find
from benchmark.datasets.photos import DataSet, Photo, read_photo, refuse_empty

NAME = "tsi"
TEMPLATES = ("a photo of a person {}",)
FRAMES_A_SECOND = 2
UPDATES = (
    {
        "WatchTV": "watching TV",
        "Laydown": "lying down",
        "Sitdown": "sitting down",
        "Pour.Fromkettle": "holding a black kettle",
        "Enter": "walking",
        "Drink.Frombottle": "holding a bottle",
    },
    {
        "Eat.Attable": "eating",
        "Pour.Frombottle": "holding a bottle",
        "Cook.Cleandishes": "washing dishes",
        "Maketea.Boilwater": "boiling water in a black kettle",
        "Leave": "walking",
        "Cook.Cleanup": "cleaning up",
    },
    {
        "Maketea.Insertteabag": "making tea",
        "Makecoffee.Pourwater": "using a white coffee machine",
        "Drink.Fromcan": "holding a can",
        "Readbook": "reading a book",
        "Cutbread": "cutting bread",
    },
    {
        "Drink.Fromcup": "holding a cup",
        "Drink.Fromglass": "holding a glass",
        "Usetablet": "using a tablet",
        "Pour.Fromcan": "holding a can",
        "Usetelephone": "using a cordless phone",
    },
    {
        "Walk": "walking",
        "Cook.Stir": "stirring the pot",
        "Makecoffee.Pourgrains": "using a white coffee machine",
        "Cook.Cut": "cutting food",
        "Uselaptop": "using a laptop",
    },
)
"""Activity to caption, in the published order of the five updates."""
CAPTIONS = tuple(dict.fromkeys(caption for update in UPDATES for caption in update.values()))
DROPPED = frozenset({"Cook.Usestove", "Eat.Snack", "Getup", "Takepills"})
TRAIN_SUBJECTS = frozenset(f"p{number:02}" for number in (3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25))
TEST_SUBJECTS = frozenset(f"p{number:02}" for number in (2, 10, 11, 14, 16, 18, 20))
_FOLDERS = ("mp4", "Smarthome/mp4", "toyota_smarthome_mp4/mp4", "toyota_smarthome_mp4")
_FILE = re.compile(r"(?P<activity>\w+?(\.\w+?)?)_(?P<subject>p\d\d)_r\d\d_v\d\d_c\d\d\.mp4")


def load_tsi(root: Path) -> DataSet:
    """ "tsi": frames grouped by subject, decoded when they are opened; five updates.

    Raises SetMissing, SetMalformed (a name of another form, an unknown activity or subject) and
    ClassEmpty.
    """
    folder = video_folder(root)
    train: list[Photo] = []
    test: list[Photo] = []
    for subject, photo in _photos(folder):
        (train if subject in TRAIN_SUBJECTS else test).append(photo)
    for split, photos in (("train", train), ("test", test)):
        refuse_empty(NAME, split, CAPTIONS, photos, folder)
    updates = tuple(
        tuple(CAPTIONS.index(caption) for caption in update.values()) for update in UPDATES
    )
    return DataSet(NAME, CAPTIONS, TEMPLATES, updates, tuple(train), tuple(test))


def video_folder(root: Path) -> Path:
    """Raises SetMissing, which names every place."""
    return find(NAME, "the folder of the trimmed videos", [root / each for each in _FOLDERS])


def kept_frame(video: Path) -> Path:
    """Where a video's frame is kept."""
    return video.parent.parent / "frames" / f"{video.stem}.png"


def middle_frame(name: str, path: Path) -> Image.Image:
    """RGB. Of the video's frames at two a second, the middle one. Raises PhotoUnreadable."""
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise PhotoUnreadable(name, "it has no pictures")
            return _shown_at_the_middle(name, video)
    except (av.FFmpegError, OSError) as damage:
        raise PhotoUnreadable(name, str(damage)) from damage


def _photos(folder: Path) -> Iterator[tuple[str, Photo]]:
    """(subject, photo) of each video that is not dropped."""
    taught = {
        activity: (update, CAPTIONS.index(caption))
        for update, captions in enumerate(UPDATES)
        for activity, caption in captions.items()
    }
    for path in sorted(folder.glob("*.mp4")):
        named = _FILE.fullmatch(path.name)
        if named is None:
            reason = "it is not named <activity>_pNN_rNN_vNN_cNN.mp4"
            raise SetMalformed(folder, path.name, reason)
        activity, subject = named["activity"], named["subject"]
        if activity not in taught and activity not in DROPPED:
            raise SetMalformed(folder, path.name, f"{activity!r} is no activity of the set")
        if subject not in TRAIN_SUBJECTS | TEST_SUBJECTS:
            raise SetMalformed(folder, path.name, f"subject {subject} is in no split")
        if activity in taught:
            update, label = taught[activity]
            kept = kept_frame(path)
            opening = (
                partial(read_photo, f"frames/{kept.name}", kept)
                if kept.exists()
                else partial(middle_frame, path.name, path)
            )
            yield subject, Photo(path.name, label, subject, opening, update)


def _shown_at_the_middle(name: str, video: av.container.InputContainer) -> Image.Image:
    stream = video.streams.video[0]
    if stream.duration is None or stream.time_base is None:
        raise PhotoUnreadable(name, "it does not say how long it lasts")
    frames = math.ceil(FRAMES_A_SECOND * stream.duration * stream.time_base)
    middle = (stream.start_time or 0) * stream.time_base + Fraction(frames // 2, FRAMES_A_SECOND)
    video.seek(int(middle / stream.time_base), stream=stream)  # to the key frame before it
    shown = None
    for frame in video.decode(stream):
        if frame.time is None or (shown is not None and frame.time > middle):
            break
        shown = frame
    if shown is None or shown.time is None or middle - shown.time > 1 / FRAMES_A_SECOND:
        raise PhotoUnreadable(name, f"it ends before its middle, {float(middle):.1f} s")
    return Image.fromarray(shown.to_ndarray(format="rgb24"))
