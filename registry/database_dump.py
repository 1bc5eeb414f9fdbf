"""The whole database in one file and back: PostgreSQL by its own tools, SQLite by its online
backup. Both show the database as of one moment, and nobody waits meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.engine import URL, make_url

from registry.errors import DumpFailed, NotEmpty
from registry.session import open_database, translated_errors


def dump_database(location: str, file: Path) -> None:
    """Raises DumpFailed."""
    url = make_url(location)
    if url.get_backend_name() == "sqlite":
        _copy_sqlite(Path(str(url.database)), file)
        return
    with _login(url) as address:
        _run("pg_dump", "--no-password", "--format=custom", f"--file={file}", f"--dbname={address}")


def restore_database(location: str, file: Path) -> None:
    """Into a database that has no tables. Raises NotEmpty, DumpFailed, DatabaseUnavailable."""
    url = make_url(location)
    _prove_empty(location, url)
    if url.get_backend_name() == "sqlite":
        _copy_sqlite(file, Path(str(url.database)))
        return
    options = ("--no-password", "--no-owner", "--exit-on-error", "--single-transaction")
    with _login(url) as address:
        _run("pg_restore", *options, f"--dbname={address}", str(file))


def _prove_empty(location: str, url: URL) -> None:
    engine = open_database(location)
    try:
        with translated_errors(engine):
            if inspect(engine).get_table_names():
                raise NotEmpty(f"the database {url.render_as_string(hide_password=True)}")
    finally:
        engine.dispose()


def _copy_sqlite(source: Path, destination: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(destination)) as new,
        ):
            old.backup(new)
    except sqlite3.Error as problem:
        raise DumpFailed(f"copying {source} to {destination}", str(problem)) from problem


@contextmanager
def _login(url: URL) -> Iterator[str]:
    """An address for the tools. The password stands in a file of our own: a list of processes would
    show it."""
    plain = url.set(drivername="postgresql", password=None)
    with tempfile.NamedTemporaryFile("w") as passwords:  # only its owner may read it
        secret = str(url.password or "").replace("\\", "\\\\").replace(":", "\\:")
        passwords.write(f"*:*:*:*:{secret}\n")
        passwords.flush()
        plain = plain.update_query_dict({"passfile": passwords.name})
        yield plain.render_as_string(hide_password=False)


def _run(tool: str, *arguments: str) -> None:
    if shutil.which(tool) is None:
        raise DumpFailed(tool, "it is not installed here (apt-get install postgresql-client)")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DumpFailed(tool, " ".join(done.stderr.split()) or f"it ended with {done.returncode}")
