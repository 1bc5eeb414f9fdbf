"""The build argument that switches PyTorch: the Dockerfile's own line against two small indexes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"^RUN (pip install .*/torch\.txt)$", re.M)


def _pin(name: str) -> str:
    found = re.search(rf"^{name}==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert found is not None
    return found[1]


def _publish(index: Path, name: str, version: str) -> None:
    """An empty wheel in a folder that, listed over HTTP, is an index."""
    folder = index / name
    folder.mkdir(parents=True)
    facts = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{facts}/RECORD", "")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[str]:
    """`/usual` holds the pinned versions, `/other` the same with a local version."""
    for name in ("torch", "torchvision"):
        _publish(tmp_path / "indexes" / "usual", name, _pin(name))
        _publish(tmp_path / "indexes" / "other", name, f"{_pin(name)}+cpu")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "indexes"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _installed(tmp_path: Path, indexes: str, argument: str) -> dict[str, str]:
    """Versions by name that the line would install."""
    layers = tmp_path / "layers"
    tool = [sys.executable, str(ROOT / "docker" / "layers.py")]
    subprocess.run([*tool, str(ROOT / "pyproject.toml"), str(layers)], check=True)
    (layers / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    found = LINE.search((ROOT / "docker" / "api.Dockerfile").read_text())
    assert found is not None
    line = found[1].replace("/layers/", f"{layers}/").replace("pip ", f"{sys.executable} -m pip ")
    pip = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{indexes}/usual",
        "PIP_DRY_RUN": "1",
        "PIP_NO_DEPS": "1",
        "PIP_IGNORE_INSTALLED": "1",
        "PIP_REPORT": str(tmp_path / "report.json"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    outside = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment = {**outside, **pip, "PYTORCH_INDEX": argument}
    done = subprocess.run(
        ["sh", "-euc", line], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    return {each["metadata"]["name"]: each["metadata"]["version"] for each in report["install"]}


def test_the_usual_index_is_used_alone_unless_another_is_named(
    tmp_path: Path, indexes: str
) -> None:
    expected = {name: _pin(name) for name in ("torch", "torchvision")}
    assert _installed(tmp_path, indexes, "") == expected


def test_the_build_of_the_named_index_wins(tmp_path: Path, indexes: str) -> None:
    expected = {name: f"{_pin(name)}+cpu" for name in ("torch", "torchvision")}
    assert _installed(tmp_path, indexes, f"{indexes}/other") == expected
