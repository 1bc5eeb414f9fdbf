"""`python -m app` serves; `migrate` brings the database up to date and ends, `downgrade REVISION`
takes it back to that of a former release."""

from __future__ import annotations

import argparse
import sys

from app.errors import AppError
from app.start import open_ground, read_settings
from registry.data_folder import prepare_folder
from registry.errors import RegistryError
from registry.schema import downgrade, upgrade


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, or 1 after one sentence on stderr on what keeps it from starting."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="answer requests until told to stop (the default)")
    commands.add_parser("migrate", help="bring the database up to date")
    back = commands.add_parser("downgrade", help="take the database back to a former release's")
    back.add_argument("revision")
    chosen = parser.parse_args(arguments)
    try:
        settings = read_settings()
        if chosen.command == "migrate":
            prepare_folder(settings.data)
            upgrade(settings.database_location)
            return 0
        if chosen.command == "downgrade":
            downgrade(settings.database_location, chosen.revision)
            return 0
        open_ground(settings).engine.dispose()
        from app.serve import serve  # torch, which takes its time: only now

        return serve(settings)
    except (AppError, RegistryError) as error:
        sys.stderr.write(f"Emend cannot start: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
