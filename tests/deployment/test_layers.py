"""What the images' layers install: all of the project's own extras, the heavy part apart."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _layers(tmp_path: Path, pyproject: Path) -> dict[str, list[str]]:
    folder = tmp_path / "layers"
    command = [sys.executable, str(ROOT / "docker" / "layers.py"), str(pyproject), str(folder)]
    subprocess.run(command, check=True)
    return {file.stem: file.read_text().splitlines() for file in folder.iterdir()}


def test_every_requirement_is_in_one_layer(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    layers = _layers(tmp_path, ROOT / "pyproject.toml")
    assert [line.split(">")[0] for line in layers["torch"]] == ["torch", "torchvision"]
    assert sorted(layers["torch"] + layers["shared"]) == sorted(
        project["dependencies"] + extras["vlm"] + extras["postgres"] + extras["s3"]
    )
    assert layers["app"] == extras["app"]
    assert layers["worker"] == extras["worker"]


def test_a_layer_stays_the_same_when_another_part_of_the_project_changes(tmp_path: Path) -> None:
    before = _layers(tmp_path, ROOT / "pyproject.toml")
    changed = tmp_path / "pyproject.toml"
    text = (ROOT / "pyproject.toml").read_text()
    changed.write_text(text.replace("line-length = 100", "line-length = 99"))
    assert changed.read_text() != text
    assert _layers(tmp_path, changed) == before
