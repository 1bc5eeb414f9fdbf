"""`python -m demo --images …` as a process: the whole story on a few coloured pictures."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.support.waiting import wait_for

COLOURS = {"crimson tile": (200, 30, 30), "lime tile": (60, 200, 40)}
COMMAND = [sys.executable, "-m", "demo", "--images"]
WIDE = {**os.environ, "COLUMNS": "160"}  # no line is broken


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four PNGs of each of two colours, no two alike."""
    draw = random.Random(0)
    for label, colour in COLOURS.items():
        (tmp_path / label).mkdir()
        for number in range(4):
            shade = tuple(channel + draw.randint(-25, 25) for channel in colour)
            image = Image.new("RGB", (40 + 8 * number, 48), shade)
            image.save(tmp_path / label / f"{number}.png")
    return tmp_path


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(folder)], env=WIDE, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_small_folder_tells_the_story_to_its_end(pictures: Path) -> None:
    done = _run(pictures)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 photos to correct, 4 held out" in done.stdout
    assert re.search(r"photo \d after the rollback", done.stdout)
    before, words, rolled_back = (
        row for row in done.stdout.splitlines() if row.startswith("│") and '"What is this?"' in row
    )
    assert "of held-out photos, right" in before
    cells = [cell.strip() for cell in words.strip("│").split("│")]
    assert cells[1]
    assert [cell.strip() for cell in rolled_back.strip("│").split("│")][2] == cells[1]
    (corrected,) = (line for line in done.stdout.splitlines() if "corrected photos right" in line)
    assert "100.0 %" in corrected


def test_a_folder_that_cannot_serve_ends_with_one_sentence(tmp_path: Path) -> None:
    done = _run(tmp_path / "nowhere")
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("The demo stopped: ")
    assert "nowhere' is not a folder" in line


@pytest.fixture
def _as_in_a_terminal() -> Iterator[None]:
    """Shells ignore SIGINT for what they run in the background, and children inherit that."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("_as_in_a_terminal")
@pytest.mark.parametrize("moment", ["Starting the service", "Sending the corrections"])
def test_ctrl_c_stops_the_service_too(pictures: Path, moment: str) -> None:
    log = pictures / "log"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [*COMMAND, str(pictures)], env=WIDE, stdout=output, stderr=subprocess.STDOUT
        )
    own = psutil.Process(demo.pid)
    try:
        wait_for(lambda: moment in log.read_text() and own.children(), seconds=120, what=moment)
        children = own.children(recursive=True)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 130
    finally:
        demo.kill()
        demo.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert log.read_text().splitlines()[-1] == "Interrupted; the service is stopped."
    assert "Traceback" not in log.read_text()
