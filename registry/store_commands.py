"""`verify` and `collect`: the operator looks after the store of files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from registry.artifacts import ArtifactStore, release_artifacts, unnamed_artifacts
from registry.backup import THREADS
from registry.batches import batches
from registry.command_arguments import hours
from registry.deployment import Deployment
from registry.found_file import FoundFile
from registry.schema import check
from registry.session import open_database, reading, transaction
from registry.strays import GRACE, folders_in_use, remove_strays, stray_files
from registry.verification import Verification, verify

SHOWN = 20
WITH_FINDINGS = 1


def add_store_commands(commands: Any) -> None:
    """To the parser's subcommands; each sets `run`."""
    look = commands.add_parser(
        "verify", help="read every file that a row names: is it there, is it whole; and the chains"
    )
    look.add_argument("--json", action="store_true", help="the result as JSON")
    look.add_argument("--threads", type=int, default=THREADS, help=f"default {THREADS}")
    look.set_defaults(run=run_verify)
    tidy = commands.add_parser("collect", help="remove files that no row names")
    tidy.add_argument(
        "--older-than",
        type=hours,
        default=GRACE / timedelta(hours=1),
        metavar="HOURS",
        help="files that have no row, when last written so long ago (default %(default)g)",
    )
    tidy.add_argument("--dry-run", action="store_true", help="say what would be removed")
    tidy.set_defaults(run=run_collect)


@contextmanager
def opened() -> Iterator[tuple[Engine, ArtifactStore]]:
    """The deployment's database, of this release, and its files.

    Raises RegistryError, pydantic's ValidationError.
    """
    settings = Deployment()
    engine = open_database(settings.database_location)
    try:
        check(engine)
        yield engine, ArtifactStore(settings.artifacts_location)
    finally:
        engine.dispose()


def run_verify(chosen: argparse.Namespace) -> int:
    """0, or 1 with findings. Raises RegistryError."""
    with opened() as (engine, store):
        found = verify(engine, store, threads=max(chosen.threads, 1), progress=_show_progress)
    (_tell_as_json if chosen.json else _tell)(found)
    return WITH_FINDINGS if found.findings else 0


def run_collect(chosen: argparse.Namespace) -> int:
    """Raises RegistryError."""
    older_than = timedelta(hours=chosen.older_than)
    with opened() as (engine, store):
        if until := store.held_until():
            sys.stdout.write(f"nothing is removed: a backup holds the store until {until}\n")
            return 0
        released = 0 if chosen.dry_run else _release(engine, store)
        strays = [
            file
            for folder in folders_in_use(store)
            for file in _collect_folder(engine, store, folder, older_than, dry_run=chosen.dry_run)
        ]
    for file in strays:
        sys.stdout.write(f"{file.name}  {file.bytes} bytes, written {file.modified}\n")
    verb = "would be" if chosen.dry_run else "were"
    size = sum(file.bytes for file in strays)
    sys.stdout.write(f"{len(strays)} files ({size} bytes) without a row {verb} removed")
    sys.stdout.write(f", {released} whose rows went\n" if released else "\n")
    return 0


def _release(engine: Engine, store: ArtifactStore) -> int:
    last: str | None = ""
    released = 0
    while last is not None:
        with reading(engine) as session:
            unnamed, last = unnamed_artifacts(session, after=last)
        if unnamed:
            with transaction(engine) as session:
                released += len(release_artifacts(session, store, unnamed))
    return released


def _collect_folder(
    engine: Engine, store: ArtifactStore, folder: str, older_than: timedelta, *, dry_run: bool
) -> list[FoundFile]:
    with reading(engine) as session:
        now = datetime.now(UTC)
        strays = stray_files(session, store, folder, now=now, older_than=older_than)
    if dry_run:
        return strays
    removed: list[FoundFile] = []
    for some in batches(strays):
        with transaction(engine) as session:
            removed += remove_strays(session, store, some)
    return removed


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {total} files" + ("\n" if done >= total else ""))
        sys.stderr.flush()


def _tell(found: Verification) -> None:
    for finding in found.findings:
        sys.stdout.write(f"{finding.kind}: {finding.subject}: {finding.detail}\n")
    if found.strays:
        size = sum(file.bytes for file in found.strays)
        sys.stdout.write(f"{len(found.strays)} files ({size} bytes) without a row:\n")
        for file in found.strays[:SHOWN]:
            sys.stdout.write(f"  {file.name}\n")
        if len(found.strays) > SHOWN:
            sys.stdout.write("  …\n")
    wrong = f"{len(found.findings)} findings" if found.findings else "all is well"
    sys.stdout.write(f"{found.files} files, {found.bytes} bytes checked: {wrong}\n")


def _tell_as_json(found: Verification) -> None:
    json.dump(asdict(found), sys.stdout, default=str, indent=2)
    sys.stdout.write("\n")
