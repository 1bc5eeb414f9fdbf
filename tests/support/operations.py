"""The commands of `docs/operations.md`, so that what is written there is what is tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = """#!/usr/bin/env bash
# Stands in for the engine: what a container would run, runs here.
set -euo pipefail
[ "$1 $2" = "compose up" ] && exit 0
[ "$1 $2 $3 $4" = "compose exec -T postgres" ] && shift 4 && exec "$@"
[ "$1 $2 $3" = "compose run --rm" ] || exit 64
shift 3
while [ "$1" != api ]; do
  case $1 in --volume) folder=${2%%:*} ;; --user) ;; *) exit 64 ;; esac
  shift 2
done
shift
exec "${@/#\\/backup/${folder:-}}"
"""


def commands(section: str, index: int = 0) -> str:
    """A block of commands, the first unless decided otherwise, under a heading of the page."""
    page = (ROOT / "docs" / "operations.md").read_text()
    text = re.split(r"^#+ ", page.split(f"# {section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) > index, f"no such commands under {section!r}"
    return str(blocks[index])


def run_commands(
    text: str, folder: Path, settings: Mapping[str, str], *, engine: bool = False
) -> subprocess.CompletedProcess[str]:
    """In a shell that stops at the first failure, in `folder`, with these settings only.

    Containers need a real engine; without, what they would run runs here.
    """
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    if not engine:
        (tools / "docker").write_text(DOCKER)
        (tools / "docker").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EMEND_")}
    path = f"{tools}:{Path(sys.executable).parent}:{kept['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=kept | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
