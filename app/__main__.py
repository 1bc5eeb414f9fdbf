"""`python -m app` serves; `python -m app migrate` brings the database up to date and ends."""

from __future__ import annotations

import argparse
import sys

from app.errors import AppError
from app.start import open_ground, prepare_folder, read_settings
from registry.errors import RegistryError
from registry.schema import upgrade


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, or 1 after one sentence on stderr on what keeps it from starting."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "migrate"), default="serve")
    command = parser.parse_args(arguments).command
    try:
        settings = read_settings()
        if command == "migrate":
            prepare_folder(settings.data)
            upgrade(settings.database_location)
            return 0
        open_ground(settings).engine.dispose()
        from app.serve import serve  # torch, which takes its time: only now

        return serve(settings)
    except (AppError, RegistryError) as error:
        sys.stderr.write(f"Emend cannot start: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
