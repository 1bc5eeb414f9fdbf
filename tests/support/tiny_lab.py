"""A lab in miniature: a two-block base, seven signs in two groups, things, controls, a VLM.

Pictures are noise around a colour of their own class, so that there is something to learn. Layout
and file names are those of the real lab.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path

from PIL import Image

from encoder.clip import load_encoder
from tests.support.tiny_encoder import SIDE, tiny_folder
from tests.support.tiny_vlm import tiny_vlm_folder

SIGNS = {f"{number:02}": f"sign {word}" for number, word in enumerate("abcdefg")}
THINGS = {f"thing_{word}": f"thing {word}" for word in "uvwxyz"}
CONTROLS = {"tench": "tench", "church": "church"}
IMAGENET = {"0000": "tench", "0001": "church", "0002": "goldfish"}
GROUPS = [["03", "00", "05", "01"], ["02", "06", "04"]]
TRACKS, FRAMES = 4, 2


def tiny_lab(root: Path) -> Path:
    """Write it all; returns the folder."""
    tiny_folder(root / "base")
    names = {"names": SIGNS, "templates": ["a {} sign."], "class_groups": GROUPS}
    (root / "classes-gtsrb.json").write_text(json.dumps(names))
    with zipfile.ZipFile(root / "gtsrb.zip", "w") as signs:
        for split in ("train", "test"):
            for key in SIGNS:
                for track in range(TRACKS):
                    for frame in range(FRAMES):
                        name = f"{split}/{key}/{track:05}_{frame:05}.png"
                        signs.writestr(name, _picture(key, name))
    with zipfile.ZipFile(root / "pretrain.zip", "w") as things:
        things.writestr("classes.json", json.dumps(THINGS))
        for split in ("train", "val"):
            for key in THINGS:
                for number in range(3):
                    name = f"{split}/{key}/n{number}.png"
                    things.writestr(name, _picture(key, name))
    _write_controls(root)
    return root


def tiny_lab_vlm(lab: Path, folder: Path, *, seed: int = 0) -> Path:
    """Write a VLM that reads the base's tower; returns its folder."""
    return tiny_vlm_folder(folder, load_encoder(str(lab / "base")), seed=seed)


def _write_controls(root: Path) -> None:
    with zipfile.ZipFile(root / "control.zip", "w") as control:
        for key in CONTROLS:
            for number in range(6):
                control.writestr(f"{key}/{number}.png", _picture(key, f"{key}{number}"))
    ten = {"names": CONTROLS, "templates": ["a {}."]}
    (root / "classes-control.json").write_text(json.dumps(ten))
    thousand = {"names": IMAGENET, "templates": ["a photo of a {}."]}
    (root / "classes-imagenet.json").write_text(json.dumps(thousand))
    with zipfile.ZipFile(root / "wide-control.zip", "w") as wide:
        for key in IMAGENET:
            wide.writestr(f"{key}/0.png", _picture(key, key))


def _picture(kind: str, name: str) -> bytes:
    colour, noise = random.Random(kind), random.Random(name)
    base = [colour.randrange(60, 196) for _ in range(3)]
    values = [
        max(0, min(255, each + noise.randrange(-50, 50))) for _ in range(SIDE**2) for each in base
    ]
    buffer = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), bytes(values)).save(buffer, "PNG")
    return buffer.getvalue()
