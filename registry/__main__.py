"""`python -m registry`: the operator's commands; settings are read from the same environment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from registry.backup_commands import add_backup_commands
from registry.deployment import problems_of
from registry.errors import RegistryError
from registry.secrets import ensure_secret
from registry.store_commands import add_store_commands

CANNOT_RUN = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0; 1 where what was looked at is wrong; 2 after one sentence on stderr on
    what keeps the command from running."""
    parser = argparse.ArgumentParser(prog="python -m registry", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    secret = commands.add_parser(
        "secrets", help="make a random password in each file that is missing, refuse weak ones"
    )
    secret.add_argument("files", nargs="+", type=Path, metavar="FILE")
    secret.set_defaults(run=_secrets)
    add_store_commands(commands)
    add_backup_commands(commands)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except ValidationError as error:
        wrong = "; ".join(f"{name}: {said}" for name, said in problems_of(error))
        sys.stderr.write(f"{wrong}\n")
        return CANNOT_RUN
    except RegistryError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return CANNOT_RUN
    return status


def _secrets(chosen: argparse.Namespace) -> int:
    for file in chosen.files:
        made = ensure_secret(file)
        sys.stdout.write(f"{file}: {'made' if made else 'there already'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
