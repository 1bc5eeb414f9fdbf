"""What the deployed stack costs: `make image-report`, on a Docker engine.

Sizes as the engine counts them, bytes that both images share, seconds to build again after a change
of code, seconds from nothing until everything is healthy.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmark" / "results" / "images.json"
CHANGED = {"api": "app/main.py", "worker": "worker/due_jobs.py"}
PROJECT = f"emend-report-{os.getpid()}"
COMPOSE = ("compose", "--progress=quiet", "-p", PROJECT)
Layers = list[tuple[str, int]]


def main() -> int:
    """Measures, prints and keeps the report."""
    _docker(*COMPOSE, "build", "--quiet")
    layers = {name: _layers(f"emend-{name}") for name in CHANGED}
    shared = _shared(layers["api"], layers["worker"])
    sizes = {name: sum(size for _, size in found) for name, found in layers.items()}
    report = {
        "engine": _docker("version", "--format", "{{.Server.Version}}"),
        "cores": os.cpu_count(),
        "pytorch": _docker(
            *("run", "--rm", "emend-api", "python", "-c", "import torch; print(torch.__version__)")
        ),
        "bytes": sizes,
        "bytes_shared": shared,
        "bytes_stored_for_both": sum(sizes.values()) - shared,
        "seconds_to_rebuild_after_a_code_change": {name: _rebuild(name) for name in CHANGED},
        "seconds_until_healthy": _seconds_until_healthy(),
    }
    text = json.dumps(report, indent=2)
    print(text)
    RESULT.write_text(f"{text}\n")
    return 0


def _layers(image: str) -> Layers:
    """(instruction, bytes), the oldest first."""
    form = ("--no-trunc", "--human=false", "--format", "{{json .}}")
    steps = [json.loads(line) for line in _docker("history", *form, image).split("\n")]
    return [(step["CreatedBy"], int(step["Size"])) for step in reversed(steps)]


def _shared(one: Layers, other: Layers) -> int:
    """Bytes of the layers that both begin with."""
    total = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        total += mine[1]
    return total


def _rebuild(name: str) -> float:
    """Seconds, with one line of code added in a copy of the checkout."""
    tag = f"{PROJECT}-{name}"
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "checkout"
        shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(".*", "tests", "emend-data"))
        shutil.copy2(ROOT / ".dockerignore", context)
        with (context / CHANGED[name]).open("a") as code:
            code.write(f"# {time.time()}\n")
        began = time.monotonic()
        _docker("build", "-q", "-f", f"{context}/docker/{name}.Dockerfile", "-t", tag, str(context))
        seconds = time.monotonic() - began
    _docker("rmi", tag)
    return round(seconds, 1)


def _seconds_until_healthy() -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    try:
        _docker(*COMPOSE, "up", "-d", "--wait", EMEND_PORT=str(port))
        return round(time.monotonic() - began, 1)
    finally:
        _docker(*COMPOSE, "down", "--volumes", "--timeout=5")


def _docker(*arguments: str, **environment: str) -> str:
    """What a docker command prints; the images carry their usual names, whatever is set outside."""
    plain = {name: value for name, value in os.environ.items() if "EMEND" not in name}
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env={**plain, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
