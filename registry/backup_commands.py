"""`backup` and `restore`, and their steps for where the database's tools are on another machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from registry.artifacts import ArtifactStore
from registry.backup import HOLD, Copied, copy_files
from registry.command_arguments import hours
from registry.data_folder import prepare_folder
from registry.database_dump import dump_database, restore_database
from registry.deployment import Deployment
from registry.errors import DumpFailed, HoldLost, NotEmpty
from registry.holds import begin_backup, end_backups, end_hold
from registry.schema import upgrade
from registry.session import transaction
from registry.store_commands import opened

DUMP = "database.dump"
FILES = "artifacts"
INCOMPLETE = 1


def add_backup_commands(commands: Any) -> None:
    """To the parser's subcommands; each sets `run`."""
    save = commands.add_parser("backup", help="database and files, to a folder of their own")
    save.add_argument("folder", type=Path, metavar="FOLDER")
    save.set_defaults(run=run_backup)
    back = commands.add_parser("restore", help="a backup, into an empty database and store")
    back.add_argument("folder", type=Path, metavar="FOLDER")
    back.set_defaults(run=run_restore)
    copy = commands.add_parser("copy-artifacts", help="all files on record, to or from a store")
    where = copy.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", metavar="STORE", help="a folder or URL")
    where.add_argument("--from", dest="source", metavar="STORE", help="a folder or URL")
    copy.set_defaults(run=run_copy)
    hold = commands.add_parser("hold", help="remove no file until the backup is done")
    hold.add_argument(
        "--hours", type=hours, default=HOLD / timedelta(hours=1), help="default %(default)g"
    )
    hold.add_argument("--end", action="store_true", help="the backup is done")
    hold.set_defaults(run=run_hold)


def run_backup(chosen: argparse.Namespace) -> int:
    """0, or 1 when a file is lost already. Raises RegistryError."""
    folder: Path = chosen.folder
    destination = ArtifactStore(folder / FILES)
    dump = folder / DUMP
    if dump.exists():
        raise NotEmpty(f"the folder {folder}")
    aside = dump.with_suffix(".part")
    try:
        with opened() as (engine, store):
            with _held(engine, store):
                aside.unlink(missing_ok=True)
                dump_database(Deployment().database_location, aside)
                copied = copy_files(engine, store, destination)
            aside.rename(dump)
    except OSError as problem:
        raise DumpFailed(f"writing {dump}", problem.strerror or str(problem)) from problem
    return _tell(copied)


def run_restore(chosen: argparse.Namespace) -> int:
    """0, or 1 when the backup lacks a file. One of an earlier release is migrated.

    Raises RegistryError.
    """
    dump: Path = chosen.folder / DUMP
    if not dump.is_file():
        raise DumpFailed(f"reading {dump}", "there is no such file")
    settings = Deployment()
    prepare_folder(settings.data)
    restore_database(settings.database_location, dump)
    upgrade(settings.database_location)
    with opened() as (engine, store):
        source = ArtifactStore(chosen.folder / FILES, writable=False)
        return _tell(copy_files(engine, source, store))


def run_copy(chosen: argparse.Namespace) -> int:
    """0, or 1 when the source lacks a named file. Raises RegistryError."""
    with opened() as (engine, store):
        if chosen.to is not None:
            return _tell(copy_files(engine, store, ArtifactStore(chosen.to)))
        source = ArtifactStore(chosen.source, writable=False)
        return _tell(copy_files(engine, source, store))


def run_hold(chosen: argparse.Namespace) -> int:
    """0. Raises RegistryError."""
    with opened() as (engine, store), transaction(engine) as session:
        if chosen.end:
            if not end_backups(session, store):
                raise HoldLost
            sys.stdout.write("files that nothing names are removed again\n")
            return 0
        now, hold = datetime.now(UTC), timedelta(hours=chosen.hours)
        begin_backup(session, store, now=now, hold=hold)
    sys.stdout.write(f"no file is removed until {now + hold:%Y-%m-%d %H:%M} UTC\n")
    return 0


@contextmanager
def _held(engine: Engine, store: ArtifactStore) -> Iterator[None]:
    """Raises HoldLost when files may have been removed meanwhile."""
    with transaction(engine) as session:
        holder = begin_backup(session, store, now=datetime.now(UTC), hold=HOLD)
    lasted = False
    try:
        yield
    finally:
        with transaction(engine) as session:
            lasted = end_hold(session, store, holder)
    if not lasted:
        raise HoldLost


def _tell(copied: Copied) -> int:
    for sha256 in copied.lost:
        sys.stdout.write(f"lost: {sha256}: a row names the file and the source has it no more\n")
    sys.stdout.write(
        f"{copied.files} files ({copied.bytes} bytes) copied, {copied.there_already} there already"
        + (f", {len(copied.lost)} lost\n" if copied.lost else "\n")
    )
    return INCOMPLETE if copied.lost else 0
