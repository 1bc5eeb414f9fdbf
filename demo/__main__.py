"""``python -m demo [--images FOLDER]``: the main job on real photos, from start to rollback."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from client import EmendError, JobEnded, ServiceEnded, local_service
from demo.photos import Material, UnusableFolder, digits, folder
from demo.story import Story

SEED = 0
INTERRUPTED = 130  # what a shell reports after Ctrl-C
EVERYDAY = Path(__file__).resolve().parent.parent / "encoder" / "bundled" / "labels.json"
# One batch may be several requests: start when they have all come.
GATHER = {"EMEND_EDIT_BATCH": "1000", "EMEND_EDIT_WAIT": "1"}


def _material(images: Path | None) -> Material:
    return digits(SEED) if images is None else folder(images, SEED)


def main() -> int:
    """Exit code 0 when the story went through and the rollback gave the old answer back.

    Whatever ends it, the service is stopped and its data are removed first.
    """
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--images", type=Path, help="your own folder, one sub-folder a label")
    options = parser.parse_args()
    out = Console()
    try:
        material = _material(options.images)
        distractors = json.loads(EVERYDAY.read_text())["labels"]
        with tempfile.TemporaryDirectory(prefix="emend-demo-") as data:
            out.print("Starting the service (API and worker) ...")
            with local_service(Path(data), GATHER) as service:
                told = Story(service, material, distractors=distractors, out=out).tell()
    except (UnusableFolder, ServiceEnded, EmendError, JobEnded) as problem:
        out.print(f"[red]The demo stopped:[/red] {problem}", soft_wrap=True, highlight=False)
        return 1
    except KeyboardInterrupt:
        out.print("Interrupted; the service is stopped.")
        return INTERRUPTED
    out.print("Stopped the service. [b]make serve[/b] runs it for you; the README has the calls.")
    return 0 if told.restored else 1


if __name__ == "__main__":
    sys.exit(main())
