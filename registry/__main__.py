"""`python -m registry`: the operator's commands; settings are read from the same environment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from registry.errors import RegistryError
from registry.secrets import ensure_secret


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m registry", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    secret = commands.add_parser(
        "secrets", help="make a random password in each file that is missing, refuse weak ones"
    )
    secret.add_argument("files", nargs="+", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    try:
        return _secrets(chosen.files)
    except RegistryError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _secrets(files: Sequence[Path]) -> int:
    for file in files:
        made = ensure_secret(file)
        sys.stdout.write(f"{file}: {'made' if made else 'there already'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
