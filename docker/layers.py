"""`python layers.py pyproject.toml FOLDER` writes what each layer of the images installs.

A layer is built again when its own file here changes, not with every change of pyproject.toml:
`torch.txt` (gigabytes), `shared.txt` (what both images hold besides) and a file for each process.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

HEAVY = ("torch", "torchvision")
BESIDES = ("vlm", "postgres", "s3")
PROCESSES = ("app", "worker")


def layers(pyproject: str) -> dict[str, list[str]]:
    """Requirements by the layer that installs them."""
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    besides = [each for extra in BESIDES for each in extras[extra]]
    own = {process: list(extras[process]) for process in PROCESSES}
    return {
        "torch": [each for each in project["dependencies"] if _name(each) in HEAVY],
        "shared": [each for each in project["dependencies"] if _name(each) not in HEAVY] + besides,
        **own,
    }


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0]


def main(pyproject: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for layer, requirements in layers(pyproject.read_text(encoding="utf-8")).items():
        (folder / f"{layer}.txt").write_text("".join(f"{each}\n" for each in requirements))


if __name__ == "__main__":
    main(*(Path(each) for each in sys.argv[1:]))
